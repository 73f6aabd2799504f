//! What commands are aimed at, as it is written on the command line.

use std::fmt;
use std::str::FromStr;

use mortise_control::{ModuleName, ServiceName};
use semver::Version;

/// `MODULE` or `MODULE@VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleTarget {
    /// Which module.
    pub module: ModuleName,
    /// Which version of it, if that was said.
    pub version: Option<Version>,
}

/// `MODULE@VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionTarget {
    /// Which module.
    pub module: ModuleName,
    /// Which version of it.
    pub version: Version,
}

/// `SERVICE.METHOD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodTarget {
    /// Which service.
    pub service: ServiceName,
    /// Which method of it.
    pub method: String,
}

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instances(pub Option<u32>);

/// Reads a number of workers, or `default`.
pub fn instances(text: &str) -> Result<Instances, String> {
    match text {
        "default" => Ok(Instances(None)),
        text => text.parse().map(|it| Instances(Some(it))).map_err(|_| "neither a number nor `default`".to_owned()),
    }
}

/// Reads a share in percent: `5` or `5%`.
pub fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|it| *it <= 100);
    number.ok_or_else(|| "no share like 5 or 5%, from 0 to 100".to_owned())
}

/// Reads a share in percent that is not nothing.
pub fn percent_of_some(text: &str) -> Result<std::num::NonZeroU32, String> {
    let number = percent(text).ok().and_then(std::num::NonZeroU32::new);
    number.ok_or_else(|| "no share like 5 or 5%, from 1 to 100".to_owned())
}

impl FromStr for ModuleTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let module = name.parse().map_err(|it: mortise_control::InvalidName| it.to_string())?;
        let version = version.map(parse_version).transpose()?;
        Ok(Self { module, version })
    }
}

/// `2` and `2.0` are what people type; they mean 2.0.0.
fn parse_version(text: &str) -> Result<Version, String> {
    let numbers = text.split('.').count();
    let plain = text.bytes().all(|it| it.is_ascii_digit() || it == b'.');
    let filled = match numbers {
        1 if plain => format!("{text}.0.0"),
        2 if plain => format!("{text}.0"),
        _ => text.to_owned(),
    };
    Version::parse(&filled).map_err(|error| format!("{text:?} is not a version like 1.2.0: {error}"))
}

impl FromStr for VersionTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ModuleTarget { module, version } = text.parse()?;
        let version = version.ok_or_else(|| format!("which version? Write {module}@VERSION"))?;
        Ok(Self { module, version })
    }
}

impl FromStr for MethodTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, method) = text.split_once('.').ok_or("write SERVICE.METHOD")?;
        let service = service.parse().map_err(|it: mortise_control::InvalidName| it.to_string())?;
        let sound = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
        if method.is_empty() || !method.bytes().all(sound) {
            return Err(format!("{method:?} cannot be a method: letters, digits and '_'"));
        }
        Ok(Self { service, method: method.to_owned() })
    }
}

impl fmt::Display for ModuleTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.module),
            None => write!(f, "{}", self.module),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_may_be_short() {
        let version = |text: &str| text.parse::<ModuleTarget>().map(|it| it.version.map(|it| it.to_string()));
        assert_eq!(version("site"), Ok(None));
        assert_eq!(version("site@2"), Ok(Some("2.0.0".into())));
        assert_eq!(version("site@2.1"), Ok(Some("2.1.0".into())));
        assert_eq!(version("site@2.1.0-rc.1"), Ok(Some("2.1.0-rc.1".into())));
        for bad in ["site@", "site@x", "site@1.2.3.4", "Site", "@1.0.0", "site@1..2"] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_method_has_a_service() {
        let target: MethodTarget = "spell.check_text".parse().unwrap();
        assert_eq!((target.service.as_str(), target.method.as_str()), ("spell", "check_text"));
        for bad in ["spell", "spell.", ".check", "spell.che ck", "spell.a/b", "spell.a.b"] {
            assert!(bad.parse::<MethodTarget>().is_err(), "{bad}");
        }
    }
}

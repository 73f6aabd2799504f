//! `mortise new`: a folder with a module that builds, is tested and runs.
//!
//! The templates are files of their own below `templates/`; `{{name}}` and the like are replaced. What comes in is a checked
//! name and TOML that was written by a TOML library, so nothing can break out of its place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mortise_control::ModuleName;

/// What kind of module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Rust program with the SDK, which is taken from there.
    Sdk(SdkSource),
    /// An HTTP server in Python's standard library.
    Http,
}

/// Where a new module takes the SDK from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SdkSource {
    /// A folder: `module-runtime/` of a checkout.
    Folder(PathBuf),
    /// The registry, in the version of this Mortise.
    Registry,
}

/// Why no module was made.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// Nothing is overwritten.
    #[error("{0} is there already")]
    Exists(PathBuf),
    /// A folder or file could not be written.
    #[error("{path}: {error}", path = .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The folder of the SDK has no `Cargo.toml`.
    #[error("{0} is not the folder of the SDK: it has no Cargo.toml of a package module-runtime")]
    NoSdk(PathBuf),
}

/// A file of a new module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Where in the module's folder.
    pub path: &'static str,
    /// What is in it.
    pub text: String,
}

/// The files of a new module.
#[must_use]
pub fn files(name: &ModuleName, kind: &Kind) -> Vec<NewFile> {
    let file = |path, template: &str| NewFile { path, text: template.replace("{{name}}", name.as_str()) };
    match kind {
        Kind::Sdk(source) => {
            let cargo = file("Cargo.toml", include_str!("templates/sdk/Cargo.toml.in"));
            let cargo = NewFile { text: cargo.text.replace("{{sdk}}", &dependency(source)), ..cargo };
            vec![
                cargo,
                file("module.toml", include_str!("templates/sdk/module.toml.in")),
                file("src/main.rs", include_str!("templates/sdk/main.rs.in")),
                file(".gitignore", "/target\n*.mortise\n"),
            ]
        }
        Kind::Http => vec![
            file("module.toml", include_str!("templates/http/module.toml.in")),
            file("server.py", include_str!("templates/http/server.py.in")),
            file(".gitignore", "__pycache__/\n*.mortise\n"),
        ],
    }
}

/// The value of the dependency `module-runtime`.
fn dependency(source: &SdkSource) -> String {
    let mut table = toml::Table::new();
    match source {
        SdkSource::Folder(path) => table.insert("path".into(), path.display().to_string().into()),
        SdkSource::Registry => table.insert("version".into(), env!("CARGO_PKG_VERSION").into()),
    };
    toml::Value::Table(table).to_string()
}

/// Makes the folder `name` below `parent` with the files of a new module. Returns the folder.
///
/// # Errors
/// The folder is there already, the SDK is not where it was said to be, or something could not be written; what was made before is
/// removed again.
pub fn create(parent: &Path, name: &ModuleName, kind: &Kind) -> Result<PathBuf, ScaffoldError> {
    if let Kind::Sdk(SdkSource::Folder(sdk)) = kind
        && !is_sdk(sdk)
    {
        return Err(ScaffoldError::NoSdk(sdk.clone()));
    }
    let folder = parent.join(name.as_str());
    if let Err(error) = fs::create_dir(&folder) {
        return Err(match error.kind() {
            io::ErrorKind::AlreadyExists => ScaffoldError::Exists(folder),
            _ => ScaffoldError::Write { path: folder, error },
        });
    }
    for NewFile { path, text } in files(name, kind) {
        let path = folder.join(path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        if let Err(error) = written {
            // The folder is ours: it was not there before.
            let _ = fs::remove_dir_all(&folder);
            return Err(ScaffoldError::Write { path, error });
        }
    }
    Ok(folder)
}

/// Whether this is the folder of the SDK.
#[must_use]
pub fn is_sdk(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).ok().and_then(|it| it.parse::<toml::Table>().ok());
    manifest.is_some_and(|it| {
        it.get("package").and_then(|it| it.get("name")).and_then(toml::Value::as_str) == Some("module-runtime")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn name() -> ModuleName {
        ModuleName::new("greeter").unwrap()
    }

    fn text(kind: &Kind, path: &str) -> String {
        files(&name(), kind).into_iter().find(|it| it.path == path).unwrap().text
    }

    #[test]
    fn every_new_module_toml_is_sound() {
        for kind in [Kind::Sdk(SdkSource::Registry), Kind::Http] {
            let manifest =
                Manifest::parse(&text(&kind, "module.toml"), "module.toml").unwrap_or_else(|it| panic!("{it}"));
            assert_eq!(manifest.name, name());
            assert_eq!(manifest.provides.len(), 1);
        }
    }

    #[test]
    fn nothing_is_left_to_replace() {
        for kind in [Kind::Sdk(SdkSource::Registry), Kind::Http] {
            for file in files(&name(), &kind) {
                assert!(!file.text.contains("{{name") && !file.text.contains("{{sdk"), "{}: {}", file.path, file.text);
            }
        }
    }

    #[test]
    fn a_strange_path_cannot_break_out_of_the_manifest() {
        let source = SdkSource::Folder(PathBuf::from("/a \"b\"\\c\n[dependencies.evil]"));
        let cargo: toml::Table = text(&Kind::Sdk(source.clone()), "Cargo.toml").parse().unwrap();
        let SdkSource::Folder(path) = source else { unreachable!() };
        assert_eq!(cargo["dependencies"]["module-runtime"]["path"].as_str(), path.to_str());
        let dependencies: Vec<_> = cargo["dependencies"].as_table().unwrap().keys().collect();
        assert_eq!(dependencies, ["module-runtime", "serde"], "{cargo}");
    }

    #[test]
    fn what_is_there_is_not_touched() {
        let parent = tempfile::tempdir().unwrap();
        let folder = create(parent.path(), &name(), &Kind::Http).unwrap();
        fs::write(folder.join("server.py"), "mine").unwrap();
        assert!(matches!(create(parent.path(), &name(), &Kind::Http), Err(ScaffoldError::Exists(_))));
        assert_eq!(fs::read_to_string(folder.join("server.py")).unwrap(), "mine");
    }

    #[test]
    fn an_sdk_that_is_none_is_found_before_anything_is_written() {
        let parent = tempfile::tempdir().unwrap();
        let kind = Kind::Sdk(SdkSource::Folder(parent.path().to_owned()));
        assert!(matches!(create(parent.path(), &name(), &kind), Err(ScaffoldError::NoSdk(_))));
        assert!(!parent.path().join("greeter").exists());
    }
}

//! Paths inside a package.

use std::fmt;
use std::path::Path;

/// A path inside a package: relative, UTF-8, no empty, `.` or `..` component, no control characters, at most 255 bytes
/// and 32 components.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackagePath(Box<str>);

/// Why a path inside a package was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathRefused {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// It begins with `/`.
    #[error("it is absolute")]
    Absolute,
    /// It has a `..`.
    #[error("it has a `..` component, which leads out of its folder")]
    Parent,
    /// It has an empty or `.` component.
    #[error("it has an empty or `.` component")]
    NotPlain,
    /// It has a control character.
    #[error("it has a control character or a backslash")]
    Control,
    /// Too long.
    #[error("it has {0} bytes; at most {max} are allowed", max = PackagePath::BYTES_MAX)]
    TooLong(usize),
    /// Too deep.
    #[error("it is {0} folders deep; at most {max} are allowed", max = PackagePath::DEPTH_MAX)]
    TooDeep(usize),
}

impl PackagePath {
    /// The longest path, in bytes.
    pub const BYTES_MAX: usize = 255;
    /// The most components.
    pub const DEPTH_MAX: usize = 32;

    /// Checks `text` and makes it a path inside a package.
    ///
    /// # Errors
    /// [`PathRefused`] says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, PathRefused> {
        if text.is_empty() {
            return Err(PathRefused::Empty);
        }
        if text.starts_with('/') {
            return Err(PathRefused::Absolute);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(PathRefused::TooLong(text.len()));
        }
        if text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(PathRefused::Control);
        }
        for component in text.split('/') {
            match component {
                ".." => return Err(PathRefused::Parent),
                "" | "." => return Err(PathRefused::NotPlain),
                _ => {}
            }
        }
        match text.split('/').count() {
            depth if depth > Self::DEPTH_MAX => Err(PathRefused::TooDeep(depth)),
            _ => Ok(Self(text.into())),
        }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder it lies in; `None` at the top of the package.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// The path `name` inside this folder.
    ///
    /// # Errors
    /// [`PathRefused`] as for [`PackagePath::new`].
    pub fn join(&self, name: &str) -> Result<Self, PathRefused> {
        Self::new(&format!("{}/{name}", self.0))
    }

    /// Whether it is `folder` or lies in it.
    #[must_use]
    pub fn is_within(&self, folder: &Self) -> bool {
        self.0.strip_prefix(&*folder.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl AsRef<Path> for PackagePath {
    fn as_ref(&self) -> &Path {
        Path::new(&*self.0)
    }
}

impl fmt::Display for PackagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for PackagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

//! A copy of the store in another form: a file to which every committed change is appended. Nobody reads it unless the store is damaged.
//!
//! ```text
//!   "mortise's copy \n"  format u32   then frames:  length u32   first 16 bytes of the payload's sha256   payload: Vec<Change>
//! ```
//! Numbers are little endian. It follows the store and is synced a moment after a change, off the path of those who wait for one: after a
//! power cut it may be that moment behind, after a crash of the supervisor one change, and it is caught up at the next start. What it can
//! never be is ahead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::fold::{Fold, changes};
use super::format::FORMAT;
use super::{Change, Records, StoreError};

const MAGIC: &[u8; 16] = b"mortise's copy \n";
const HEADER: usize = MAGIC.len() + 4;
const SUM: usize = 16;
const FRAME_HEADER: usize = 4 + SUM;

/// Changes in a frame of a copy that is written anew.
const FRAME_CHANGES: usize = 256;

/// It is written anew when it has become so much longer than it was when it was last.
const GROWTH: u64 = 4 << 20;

/// The copy as it is kept up.
#[derive(Debug)]
pub(super) struct StoreCopy {
    path: PathBuf,
    /// What it holds, or would hold if it could be written.
    fold: Fold,
    /// None: it could not be written, and is to be written anew.
    file: Option<Appended>,
}

#[derive(Debug)]
struct Appended {
    file: File,
    length: u64,
    at_first: u64,
    /// Whether all of it is on disk.
    synced: bool,
}

/// What could be read of a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Copied {
    /// The records, as of the last change that could be read.
    pub(super) records: Records,
    /// Why it could not be read to its end; none: it could.
    pub(super) torn: Option<String>,
    length: u64,
    format: u32,
}

impl StoreCopy {
    /// Goes on with the copy at `path` if it holds just these records, else writes it anew.
    pub(super) fn keep(path: &Path, records: &Records) -> Self {
        let fold = Fold::of(records);
        // What is appended may be of no older format than the header says.
        let fits = |it: &Copied| it.torn.is_none() && it.format == FORMAT && Fold::of(&it.records) == fold;
        let file = match read(path) {
            Ok(Some(copied)) if fits(&copied) => append_to(path, copied.length).ok(),
            _ => None,
        };
        let mut copy = Self { path: path.to_owned(), fold, file };
        if copy.file.is_none() {
            copy.write_anew();
        }
        copy
    }

    /// These changes are in the store.
    pub(super) fn follow(&mut self, changes: &[Change]) {
        for change in changes {
            self.fold.apply(change.clone());
        }
        let Some(to) = &mut self.file else { return self.write_anew() };
        let frame = frame(changes);
        match (&to.file).write_all(&frame) {
            Ok(()) => (to.length, to.synced) = (to.length + frame.len() as u64, false),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the copy of the store is behind it");
                // The next change finds it so, and writes all of it.
                self.file = None;
                return;
            }
        }
        if to.length > to.at_first * 2 + GROWTH {
            self.write_anew();
        }
    }

    /// What was appended is on disk after this, and outlives the power.
    pub(super) fn sync(&mut self) {
        let Some(to) = self.file.as_mut().filter(|it| !it.synced) else { return };
        match to.file.sync_data() {
            Ok(()) => to.synced = true,
            Err(error) => {
                // After a refused sync nobody knows what of it is there.
                tracing::warn!(path = %self.path.display(), %error, "the copy of the store is behind it");
                self.file = None;
            }
        }
    }

    /// Whether the power may take something of it.
    pub(super) fn is_behind(&self) -> bool {
        self.file.as_ref().is_none_or(|it| !it.synced)
    }

    fn write_anew(&mut self) {
        self.file = write(&self.path, &self.fold)
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "the copy of the store cannot be written; it is behind");
            })
            .ok();
    }
}

/// The copy of the store at `store`.
pub(super) fn path_of(store: &Path) -> PathBuf {
    store.with_extension("copy")
}

fn append_to(path: &Path, length: u64) -> io::Result<Appended> {
    let file = OpenOptions::new().append(true).open(path)?;
    // What its last writer left unsynced is still only in memory, if the power stayed on.
    Ok(Appended { file, length, at_first: length, synced: false })
}

fn write(path: &Path, fold: &Fold) -> io::Result<Appended> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(FORMAT.to_le_bytes());
    for changes in changes(&fold.records()).chunks(FRAME_CHANGES) {
        bytes.extend(frame(changes));
    }
    let new = path.with_extension("copy.new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&new)?;
    let named = |()| {
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    let written = file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(named);
    if let Err(error) = written {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    Ok(Appended { file, length: bytes.len() as u64, at_first: bytes.len() as u64, synced: true })
}

fn frame(changes: &[Change]) -> Vec<u8> {
    let payload = rmp_serde::to_vec_named(changes).expect("a record is plain data, which msgpack can say");
    let length = u32::try_from(payload.len()).expect("changes of one transaction are far shorter than 4 GiB");
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(&Sha256::digest(&payload)[..SUM]);
    frame.extend(payload);
    frame
}

/// The copy at `path`, as far as it can be read. None: there is none.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Disk`]
pub(super) fn read(path: &Path) -> Result<Option<Copied>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::Disk { what: "read", path: path.into(), problem: error.to_string() }),
    };
    let torn = |problem: &str| Copied { torn: Some(problem.into()), ..Copied::default() };
    let Some((header, mut rest)) = bytes.split_at_checked(HEADER) else {
        return Ok(Some(torn("it ends in its header")));
    };
    let Some(format) = header.strip_prefix(MAGIC.as_slice()) else { return Ok(Some(torn("it has no header"))) };
    let found = u32::from_le_bytes(format.try_into().unwrap_or_default());
    if found > FORMAT {
        return Err(StoreError::Newer { path: path.into(), found, known: FORMAT });
    }
    let mut fold = Fold::default();
    let mut torn = None;
    while !rest.is_empty() {
        match first_frame(rest) {
            Ok((changes, after)) => {
                changes.into_iter().for_each(|it| fold.apply(it));
                rest = after;
            }
            Err(problem) => {
                torn = Some(format!("at byte {}: {problem}", bytes.len() - rest.len()));
                break;
            }
        }
    }
    let length = (bytes.len() - rest.len()) as u64;
    Ok(Some(Copied { records: fold.records(), torn, length, format: found }))
}

fn first_frame(bytes: &[u8]) -> Result<(Vec<Change>, &[u8]), String> {
    let (header, rest) = bytes.split_at_checked(FRAME_HEADER).ok_or("it ends in the middle of a change")?;
    let (length, sum) = header.split_at(4);
    let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
    let (payload, after) = rest.split_at_checked(length as usize).ok_or("it ends in the middle of a change")?;
    if Sha256::digest(payload)[..SUM] != *sum {
        return Err("a change does not fit its checksum".into());
    }
    let changes = rmp_serde::from_slice(payload).map_err(|error| format!("a change cannot be read: {error}"))?;
    Ok((changes, after))
}

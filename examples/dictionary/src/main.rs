//! Makes the dictionary's resource file: `dictionary OUT.fst`.
//!
//! The words are the English list of the crate `random_word` (178,187 of them, for word games: no names, no single letters,
//! no contractions) and `words/extra.txt` with what technical prose needs beside it.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

const EXTRA: &str = include_str!("../words/extra.txt");

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: dictionary OUT.fst")?);
    let extra = EXTRA.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    let words: BTreeSet<&str> = random_word::all(random_word::Lang::En).iter().copied().chain(extra).collect();
    let mut set = fst::SetBuilder::new(BufWriter::new(File::create(&out)?))?;
    set.extend_iter(&words)?;
    set.into_inner()?.into_inner().map_err(|e| e.into_error())?.sync_all()?;
    println!("{} words in {}", words.len(), out.display());
    Ok(())
}

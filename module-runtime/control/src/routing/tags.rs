//! The tags of a call as text: `lane=canary;user=17`. They travel with nested calls in the bytes that shm-rpc keeps for them.

/// The most bytes of all tags of a call: what a slot of shm-rpc has for them.
pub const MOST: usize = 28;

/// The header in which the base tells a worker the tags of a request. It removes what a client has sent by that name.
pub const HEADER: &str = "mortise-tags";

/// The value of a tag.
#[must_use]
pub fn get<'a>(tags: &'a [u8], name: &str) -> Option<&'a str> {
    let mut parts = tags.split(|it| *it == b';');
    let value = parts.find_map(|it| it.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    std::str::from_utf8(value).ok()
}

/// Adds a tag, unless one of that name is there, the name or value cannot be one, or it does not fit: then it is left out.
pub fn add(tags: &mut Vec<u8>, name: &str, value: &str) {
    let border = usize::from(!tags.is_empty());
    let fits = tags.len() + border + name.len() + 1 + value.len() <= MOST;
    if !fits || !is_name(name) || !is_value(value) || get(tags, name).is_some() {
        return;
    }
    if border == 1 {
        tags.push(b';');
    }
    tags.extend_from_slice(name.as_bytes());
    tags.push(b'=');
    tags.extend_from_slice(value.as_bytes());
}

/// Reads tags that somebody has written, as text of this form. Nothing is left out: what cannot be a tag is refused.
///
/// # Errors
/// Which part is wrong, and what to write instead.
pub fn read(text: &str) -> Result<Vec<u8>, String> {
    let mut tags = Vec::new();
    for part in text.split(';') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not NAME=VALUE"))?;
        if !is_name(name) {
            return Err(format!("{part:?}: a tag's name is 1 to 16 of a-z, 0-9 and '-'"));
        }
        if !is_value(value) {
            return Err(format!(
                "{part:?}: a tag's value is 1 to 24 visible characters of ASCII without ';', '=' and ','"
            ));
        }
        if get(&tags, name).is_some() {
            return Err(format!("{part:?}: {name} is there already; each tag once"));
        }
        let before = tags.len();
        add(&mut tags, name, value);
        if tags.len() == before {
            return Err(format!("{part:?} does not fit: all tags of a call together have at most {MOST} bytes"));
        }
    }
    Ok(tags)
}

/// Whether this can be the name of a tag: 1 to 16 of `a-z`, `0-9` and `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let sound = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    (1..=16).contains(&text.len()) && text.bytes().all(sound)
}

/// Whether this can be the value of a tag: 1 to 24 visible characters of ASCII without `;`, `=` and `,`.
#[must_use]
pub fn is_value(text: &str) -> bool {
    let sound = |it: u8| it.is_ascii_graphic() && !matches!(it, b';' | b'=' | b',');
    (1..=24).contains(&text.len()) && text.bytes().all(sound)
}

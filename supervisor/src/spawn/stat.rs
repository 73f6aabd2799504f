//! What /proc tells of a process.

/// Field 22 of /proc/PID/stat: when it started, in clock ticks since boot. None: there is no such process.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 52: the wait status of a process that has ended and was not collected yet. None: it is not there any more, it runs, or this
/// process may not know (it would read 0).
pub(super) fn exit_code(pid: u32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (state, code) = parse_end(&stat)?;
    // What has ended has no program: who may know of it is told so, who may not is told that.
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(|it| it.kind());
    (state == "Z" && program == Err(std::io::ErrorKind::NotFound)).then_some(code)
}

/// Field 4: its parent. None: there is no such process.
pub(super) fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn parse_end(stat: &str) -> Option<(&str, i32)> {
    let (_, after) = stat.trim_end().rsplit_once(") ")?;
    let mut fields = after.split(' ');
    Some((fields.next()?, fields.nth(48)?.parse().ok()?))
}

/// The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
fn parse(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_move_the_field() {
        let plain = "7 (a) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8814 1 2";
        assert_eq!(parse(plain), Some(8814));
        assert_eq!(parse(&plain.replace("(a)", "(x) S 1 (y)")), Some(8814));
        assert_eq!(parse("7 (a) S 1"), None);
        let long = format!("7 (a b) Z {}1792", "0 ".repeat(48));
        assert_eq!(parse_end(&long), Some(("Z", 1792)));
        assert_eq!(exit_code(std::process::id()), None, "it runs");
        assert!(start_time(std::process::id()).unwrap() > 0);
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}

//! What /proc tells of a process.

/// Field 22 of /proc/PID/stat: when it started, in clock ticks since boot. None: there is no such process.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
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
        assert!(start_time(std::process::id()).unwrap() > 0);
    }
}

//! Output that hurts whoever keeps or reads it.

use crate::scene::{Attack, Scene};

pub fn a_line_without_end_is_cut_and_counted() {
    let scene = Scene::set();
    scene.attack(&Attack::new("endless-line"));
    let log = scene.log_with("the line has ended");
    let line = log.lines().find(|it| it.contains("xxxx")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.len() < 10_000, "{} bytes of it are kept", line.len());
    let left_out = (64 << 20) - 8192;
    let counted = line.split_once("… (").and_then(|it| it.1.split_once(' ')?.0.parse::<u64>().ok());
    assert!(counted.is_some_and(|it| it >= left_out), "what is left out is counted: {}", &line[line.len() - 60..]);
    scene.end();
}

pub fn nothing_that_a_worker_prints_is_obeyed_by_a_terminal() {
    let scene = Scene::set();
    scene.attack(&Attack::new("terminal"));
    let log = scene.log_with("that was all");
    let wild =
        |it: char| it.is_control() && !matches!(it, '\n' | '\t') || matches!(it, '\u{202e}' | '\u{2066}' | '\u{2028}');
    assert_eq!(log.chars().find(|it| wild(*it)), None, "{log:?}");
    for shown in ["escape", "\\x9b31m", "backspace", "\\xff\\xfe", "around", "forged"] {
        assert!(log.contains(shown), "{shown:?} is not in\n{log}");
    }
    // As JSON it says whose it is, whatever it says itself.
    let lines = scene.world.mortise(&["--json", "logs", "attacker"]);
    for line in lines.lines().filter(|it| it.contains("forged")) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["module"], "attacker", "{line}");
    }
    scene.end();
}

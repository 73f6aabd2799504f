//! module.toml: any text gives a manifest or a report whose every finding has a place in the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mortise_supervisor::manifest::Manifest;

fuzz_target!(|bytes: &[u8]| {
    if let Err(report) = Manifest::parse_bytes(bytes, "module.toml") {
        assert!(!report.findings.is_empty());
        let lines = bytes.iter().filter(|it| **it == b'\n').count() + 1;
        for finding in &report.findings {
            assert!((1..=lines).contains(&finding.line) && finding.column >= 1, "{finding:?}");
            assert!(!finding.message.is_empty() && !finding.allowed.is_empty(), "{finding:?}");
            assert!(!finding.source.chars().any(char::is_control), "{finding:?}");
        }
        let _ = report.to_string();
    }
});

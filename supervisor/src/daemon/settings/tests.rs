use std::fs;
use std::os::unix::fs::symlink;

use clap::Parser as _;

use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new(main: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.main(), main).unwrap();
        fs::create_dir(place.drop_in("")).unwrap();
        place
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("mortise.toml")
    }

    fn drop_in(&self, name: &str) -> PathBuf {
        self.0.path().join("mortise.toml.d").join(name)
    }

    fn load(&self, words: &[&str]) -> Result<Loaded, Refused> {
        let config = self.main().display().to_string();
        let words = ["mortised", "--config", &config].into_iter().chain(words.iter().copied());
        Loaded::new(&Arguments::try_parse_from(words).unwrap())
    }

    fn refused(&self) -> String {
        self.load(&[]).unwrap_err().to_string()
    }
}

#[test]
fn the_command_line_wins_over_drop_ins_over_the_file_over_the_defaults() {
    let place = Place::new(
        "state = \"/a\"\nrun = \"/a\"\nlisten = [\"127.0.0.1:1\"]\n[timeouts]\nmap = \"1s\"\nflip = \"1s\"\n",
    );
    fs::write(place.drop_in("20-late.toml"), "timeouts.map = \"3s\"").unwrap();
    fs::write(place.drop_in("10-early.toml"), "run = \"/b\"\ntimeouts.map = \"2s\"").unwrap();
    for none in [".hidden.toml", "10-early.toml.dpkg-old", "README"] {
        fs::write(place.drop_in(none), "this is none").unwrap();
    }
    let loaded = place.load(&["--listen", "127.0.0.1:2", "--tenant-uids", "300000"]).unwrap();
    let it = &loaded.settings;
    assert_eq!((it.state.as_path(), it.run.as_path()), (Path::new("/a"), Path::new("/b")));
    assert_eq!((it.timeouts.map, it.timeouts.flip), (Duration::from_secs(3), Duration::from_secs(1)));
    assert_eq!((it.listen.as_slice(), it.tenant_uids), (["127.0.0.1:2".parse().unwrap()].as_slice(), 300_000));
    assert_eq!(it.admin_socket(), Path::new("/b/admin.sock"));
    assert_eq!(it.timeouts.receipt, lifecycle::Config::default().receipt_within);
    let ends = |key: &str, end: &str| assert!(loaded.origin(key).ends_with(end), "{key}: {}", loaded.origin(key));
    ends("state", "/mortise.toml:1");
    ends("timeouts.flip", "/mortise.toml:6");
    ends("timeouts.map", "/20-late.toml:1");
    ends("listen", "--listen");
    ends("tenant_uids", "--tenant-uids");
    ends("log", BY_DEFAULT);
}

#[test]
fn what_is_printed_is_a_mortise_toml_that_says_the_same() {
    let place = Place::new(
        "state = \"/a\\n\\\"b\"\nbase = \"/b\"\nlibexec = \"/l\"\nworkers_unit = \"w.service\"\nallow_degraded = [\"freeze\"]\n\
         log_format = \"json\"\nlog = \"debug\"\nlisten = [\"[::1]:80\", \"127.0.0.1:0\"]\nremembered_operations = 99\n\
         [timeouts]\nreconnect = \"1m 30s\"\n[readiness]\nmodules = [\"site\", \"team/spell\"]\nwithin = \"5m\"\n[roles]\noperators = [\"7\"]\nreaders = [\"root\"]\nowners = [\"acme=1001\", \"other=1001\"]\n",
    );
    let loaded = place.load(&[]).unwrap();
    let again = Place::new(&loaded.to_string());
    let again = again.load(&[]).unwrap().settings;
    assert_eq!(again.keys(), loaded.settings.keys());
    assert_eq!(Settings { admin: None, ..again }, loaded.settings);
}

#[test]
fn every_option_is_a_key() {
    use clap::CommandFactory as _;
    let schema = schema_of::<SettingsFile>();
    for option in Arguments::command().get_arguments().filter_map(clap::Arg::get_long) {
        if !["config", "check-config", "help", "version"].contains(&option) {
            let key = option.replace('-', "_");
            assert!(!schema["properties"][&key].is_null(), "{key}");
        }
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_at_its_place() {
    let place = Place::new(
        "stat = \"/a\"\nlisten = [\"127.0.0.1:80\", \"localhost\"]\ntenant_uids = 5\n\nlog = \"mortise=loud\"\n\
         allow_degraded = [\"safety\"]\nworkers_unit = \"w\"\nrun = \"relative\"\n[timeouts]\nflip = \"5\"\nmap = 7\n\
         [readiness]\nmodules = [\"site\", \"team/a/b\"]\nwithin = \"2h\"\n",
    );
    fs::write(place.drop_in("a.toml"), "log_format = \"xml\"").unwrap();
    let refused = place.refused();
    for part in [
        "mortise.toml:1:",
        "unknown key \"stat\"",
        "did you mean `state`",
        "mortise.toml:2:",
        "`listen[1]` = \"localhost\" is not an address",
        "mortise.toml:3:",
        "`tenant_uids` = 5 is out of range",
        "mortise.toml:5:",
        "\"mortise=loud\" is not a filter",
        "\"safety\" is no promise",
        "landlock",
        "`workers_unit` = \"w\" is no service unit",
        "`run` = \"relative\" is not absolute",
        "`timeouts.flip` = \"5\" has no unit",
        "`timeouts.map` is the integer 7",
        "`readiness.modules[1]` = \"a/b\" is not a name",
        "`readiness.within` = \"2h\" is out of range",
        "a.toml:1:",
        "\"xml\" is not known",
        "\"journal\"",
    ] {
        assert!(refused.contains(part), "{part}:\n{refused}");
    }
}

#[test]
fn odd_files_are_refused_by_name_and_none_makes_us_wait() {
    let place = Place::new("");
    symlink("/nowhere/at/all", place.drop_in("dangling.toml")).unwrap();
    fs::create_dir(place.drop_in("folder.toml")).unwrap();
    nix::unistd::mkfifo(&place.drop_in("fifo.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(place.drop_in("latin.toml"), b"log = \"\xe4\"").unwrap();
    let huge = fs::File::create(place.drop_in("huge.toml")).unwrap();
    huge.set_len(1 << 40).unwrap();
    symlink("/dev/zero", place.drop_in("zero.toml")).unwrap();
    symlink("loop.toml", place.drop_in("loop.toml")).unwrap();
    fs::write(place.drop_in("deep.toml"), "x = ".to_owned() + &"[".repeat(100_000)).unwrap();
    let refused = place.load(&[]).unwrap_err();
    assert_eq!(refused.0.len(), 8, "{refused}");
    let refused = refused.to_string();
    for part in [
        "dangling.toml",
        "the link leads nowhere",
        "folder.toml",
        "it is a folder",
        "fifo.toml",
        "zero.toml",
        "it is no regular file",
        "latin.toml:1:",
        "0xe4 is not UTF-8",
        "huge.toml",
        "more than 262144 bytes",
        "loop.toml",
        "cannot be read",
        "deep.toml",
    ] {
        assert!(refused.contains(part), "{part}:\n{refused}");
    }
    assert!(!refused.contains('\u{1b}') && refused.len() < 20_000, "{refused}");
}

#[test]
fn a_file_that_was_named_must_be_there_and_dev_null_is_empty() {
    let place = Place::new("");
    symlink("/dev/null", place.drop_in("masked.toml")).unwrap();
    assert_eq!(place.load(&[]).unwrap().settings, Settings::default());
    fs::remove_file(place.main()).unwrap();
    assert!(place.refused().contains("there is no such file"));
    let none = Arguments { config: Some("/dev/null".into()), ..Arguments::default() };
    assert_eq!(Loaded::new(&none).unwrap().settings, Settings::default());
}

#[test]
fn a_user_has_settings_of_his_own() {
    let with = |variables: &[(&str, &str)]| {
        source::of_a_user(|name| variables.iter().find(|it| it.0 == name).map(|it| it.1.into()))
    };
    let of = |path: &str| Some(PathBuf::from(path));
    let (home, config) = (("HOME", "/home/ada"), ("XDG_CONFIG_HOME", "/c"));
    assert_eq!(with(&[home]), of("/home/ada/.config/mortise/mortise.toml"));
    assert_eq!(with(&[home, config]), of("/c/mortise/mortise.toml"));
    assert_eq!(with(&[home, ("XDG_CONFIG_HOME", "c")]), with(&[home]));
    assert_eq!(with(&[("HOME", "")]), None);
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    if nix::unistd::geteuid().is_root() {
        // Root reads everything; a folder in the way is refused to root too.
        let place = Place::new("");
        fs::remove_dir(place.drop_in("")).unwrap();
        fs::write(place.0.path().join("mortise.toml.d"), "").unwrap();
        assert!(place.refused().contains("folder of drop-ins cannot be read"));
        return;
    }
    let place = Place::new("");
    fs::set_permissions(place.main(), fs::Permissions::from_mode(0o000)).unwrap();
    assert!(place.refused().contains("it cannot be read"));
}

#[test]
fn roles_are_users_by_name_or_number() {
    let place =
        Place::new("[roles]\noperators = [\"7\", \"root\"]\nowners = [\"acme=1001\", \"other=1001\", \"acme=8\"]\n");
    fs::write(place.drop_in("10-readers.toml"), "roles.readers = [\"9\"]").unwrap();
    let roles = place.load(&[]).unwrap().settings.roles;
    assert_eq!(roles.operators, [0, 7].into());
    assert_eq!(roles.readers, [9].into());
    let of = |uid: u32| roles.owners[&uid].iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((of(1001), of(8)), (vec!["acme".to_owned(), "other".to_owned()], vec!["acme".to_owned()]));
    let place = Place::new("[roles]\noperators = [\"no such user\", \"-1\"]\nowners = [\"acme\", \"Acme=1\"]\n");
    let refused = place.refused();
    for part in ["roles.operators[0]", "roles.operators[1]", "roles.owners[0]", "TENANT=USER", "roles.owners[1]"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
}

//! The configuration file, read from text.

use super::*;

/// The errors of a file, each as `LINE MESSAGE`, in the order of their lines.
fn errors(text: &str) -> Vec<String> {
    let mut document = Document::new(text);
    document.read();
    let mut errors = document.into_errors();
    errors.sort_by_key(|error| error.line);
    errors.into_iter().map(|error| format!("{} {}", error.line, error.message)).collect()
}

fn read(text: &str) -> ConfigFile {
    let mut document = Document::new(text);
    let file = document.read();
    let errors = document.into_errors();
    assert!(errors.is_empty(), "{errors:?}");
    file
}

/// The example without the `#` before each key.
fn uncommented() -> String {
    let uncomment = |line: &'static str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|first: char| first.is_ascii_lowercase()) => key,
        _ => line,
    };
    EXAMPLE.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_has_every_key_and_no_errors() {
    let file = read(&uncommented());
    for section in OPTION_SECTIONS {
        let command = command_of(section);
        for option in section_options(&command) {
            assert!(
                file.option(section, option.name()).is_some(),
                "the example has no {} in [{section}]",
                option.key()
            );
        }
    }
    let text = uncommented();
    let document: toml::Table = text.parse().expect("TOML");
    let (grants, mail) = (&document["grants"], &document["modules"]["mail"]);
    for kind in crate::runtime::grants::GrantKind::ALL {
        let key = document::key_of(kind);
        assert!(grants.get(&key).is_some() && mail.get(&key).is_some(), "{key}");
    }
    let keys = crate::runtime::policies::TaskSettings::MODULE_KEYS;
    assert!(keys.iter().all(|key| mail.get(key).is_some() && mail["tasks"]["send"].get(key).is_some()));
    let schedule = crate::runtime::policies::TaskSettings::SCHEDULE_KEYS;
    let tasks = mail["tasks"].as_table().expect("a table");
    assert!(schedule.iter().all(|key| tasks.values().any(|task| task.get(key).is_some())));
    assert!(read(EXAMPLE).options.is_empty(), "the example sets nothing by itself");
}

#[test]
fn the_files_in_the_documentation_have_no_errors() {
    let manual = include_str!("../../../../docs/granting.md");
    let files: Vec<&str> = manual.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!files.is_empty() && files.iter().all(|file| !read(file).settings.is_empty()));
}

#[test]
fn all_errors_are_found_at_once_with_their_lines() {
    let text = "[control_plane]\nbase_adress = \"x\"\nconcurrency = 2000\ninsecure = \"yes\"\nallow_http = []\n\n\
                [grant]\n[grants]\nallow_tcp = [\"db\",\n  \"db:5432\"]\nsecret = \"KEY=hunter2\"\n\
                [modules.mail]\ntimeout = \"soon\"\nevery = 1\n[modules.mail.tasks.send]\ntz = \"UTC\"\nretry = 1\n";
    assert_eq!(
        errors(text),
        [
            "2 unknown key 'base_adress': did you mean 'base_address' or 'health_address'?",
            "3 invalid concurrency '2000': write a whole number from 0 to 1024",
            "4 insecure is true or false",
            "5 'allow_http' belongs in [grants], or in [modules.NAME] for one module",
            "7 unknown key 'grant': did you mean 'grants'?",
            "9 invalid allow_tcp 'db': write HOST:PORT with one host, by name or number, and one port, such as \
             db.example.com:5432 or [::1]:6379",
            "11 invalid secret: write NAME=file:PATH or NAME=env:VARIABLE; the secret itself never stands on the command line",
            "13 timeout is \"soon\" and should be seconds, or text like 30s, 5m or 1h, up to ten years",
            "14 'every' schedules one task: write it into [modules.mail.tasks.TASK]",
            "16 tz, count, until and overlap need every or cron as well",
            "17 unknown key 'retry': did you mean 'retry_delay' or 'retry_backoff' or 'retry_backoff_max'?",
        ]
    );
}

#[test]
fn text_that_is_not_toml_is_an_error_with_its_line() {
    assert!(errors("[grants]\nallow_tcp = [\n").iter().all(|error| error.starts_with(['2', '3'])));
    assert!(errors("[grants]\nx = = 1\n").iter().any(|error| error.starts_with("2 ")));
    assert_eq!(errors("grants = 1").len(), 1);
}

#[test]
fn what_a_host_does_not_have_is_an_error_only_where_modules_run() {
    let file = ConfigFile {
        path: Some("f".into()),
        ..read("[grants]\nsecret = [\"A=env:FASTWORKER_NO_SUCH_VARIABLE\"]\nallow_dir = \"/no/such/folder::/data\"\n")
    };
    let error = file.check_host().expect_err("errors");
    assert!(error.message.contains("f:2: ") && error.message.contains("f:3: "), "{}", error.message);
}

#[test]
fn the_flag_names_the_file_before_the_options_are_parsed() {
    let path = |line: &str| flag(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(path("subworker --config a --json"), Some("a".into()));
    assert_eq!(path("subworker --json --config=b"), Some("b".into()));
    assert_eq!(path("dev m t -- --config c"), None);
    assert_eq!(path("dev m t --configs c"), None);
}

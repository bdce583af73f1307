//! Grants as text, and what they allow.

use super::*;

fn http(text: &str) -> HttpGrant {
    text.parse().expect("a grant")
}

#[test]
fn grants_are_written_as_they_are_read() {
    for text in ["api.example.com", "https://*.example.com:8443/v1#GET,HEAD", "*", "[::1]:8000/a/", "http://10.0.0.5"] {
        assert_eq!(http(text).to_string(), text);
        assert_eq!(http(text).name(), format!("http:{text}"));
    }
    assert_eq!(http("https://API.example.com:443/").to_string(), "https://api.example.com");
    for text in ["db:5432", "10.0.0.5:1", "[fd00::1]:6379", "db.internal.example:65535"] {
        assert_eq!(text.parse().map(|tcp: TcpGrant| tcp.to_string()), Ok(text.to_owned()));
    }
    let folder = std::env::temp_dir();
    let text = format!("{}::/data:ro", folder.display());
    let dir: DirGrant = text.parse().expect("a grant");
    assert_eq!((dir.to_string(), dir.name(), dir.access), (text, "dir:/data:ro".into(), DirAccess::ReadOnly));
    let env: EnvGrant = "A=b=c".parse().expect("a grant");
    assert_eq!((env.to_string(), env.name(), env.value.as_str()), ("A=b=c".into(), "env:A".into(), "b=c"));
    assert!("PATH".parse().is_ok_and(|env: EnvGrant| env.is_inherited && env.to_string() == "PATH"));
}

#[test]
fn texts_that_grant_nothing_are_refused() {
    for wrong in [
        "",
        "ftp://a.com",
        "a.com:0",
        "a.com:70000",
        "a b.com",
        "localhost:80",
        "a.localhost",
        "a.com/..",
        "a.com/%2E%2e/b",
        "a.com/v1?x",
        "a.com#",
        "a.com#GE T",
        "*.com",
        "a.*.com",
        "user@a.com",
        "127.1",
        "0x7f.1",
        "2130706433",
        "[::1",
        "[127.0.0.1]",
        "::1:80",
        "a..com",
        "-a.com",
    ] {
        assert!(wrong.parse::<HttpGrant>().is_err(), "{wrong}");
    }
    for wrong in ["db", "*:5432", "*.example.com:1", "db:0", "db:5432/x", ":5432", "db:5432:1"] {
        assert!(wrong.parse::<TcpGrant>().is_err(), "{wrong}");
    }
    for wrong in
        ["/tmp", "::/data", "/tmp::data", "/tmp::/../etc", "/tmp::/a//b", "/no/such/folder::/data", "/dev/null::/x"]
    {
        assert!(wrong.parse::<DirGrant>().is_err(), "{wrong}");
    }
    for wrong in ["1A=b", "=b", "A B=c", "A=\0", "FASTWORKER_NO_SUCH_VARIABLE"] {
        assert!(wrong.parse::<EnvGrant>().is_err(), "{wrong}");
    }
    for wrong in
        ["A=password", "A", "A=file:", "A=env:FASTWORKER_NO_SUCH_VARIABLE", "A=file:/dev/zero", "A=file:/nowhere"]
    {
        assert!(wrong.parse::<SecretGrant>().is_err(), "{wrong}");
    }
    for wrong in ["", "env", "env:", "dir:data", "udp:a:1", "http:", "tcp:a"] {
        assert!(wrong.parse::<Need>().is_err(), "{wrong}");
    }
}

#[test]
fn a_host_pattern_includes_names_below_it_only() {
    let matches = |pattern: &str, host: &str| pattern.parse().is_ok_and(|it: HostPattern| it.matches(host));
    assert!(matches("api.example.com", "API.example.com.") && !matches("api.example.com", "xapi.example.com"));
    assert!(matches("*.example.com", "a.b.example.com"));
    for outside in ["example.com", "aexample.com", ".example.com", "example.com.evil.org"] {
        assert!(!matches("*.example.com", outside), "{outside}");
    }
    assert!(matches("*", "a.com") && matches("*", "10.0.0.1") && !matches("*", ""));
    assert!(matches("[::1]", "[::1]") && matches("[::1]", "0:0::1") && !matches("127.0.0.1", "::ffff:127.0.0.1"));
}

#[test]
fn a_path_prefix_ends_at_a_slash_and_cannot_be_left() {
    let grant = http("https://a.com/v1#GET");
    let allows = |path: &str| grant.allows("GET", HttpScheme::Https, "a.com", 443, path);
    for inside in ["/v1", "/v1/", "/v1/users/1", "/v1/a..b", "/v1/caf%C3%A9", "/v1/a%20b", "/v1/100%"] {
        assert!(allows(inside), "{inside}");
    }
    for outside in [
        "/",
        "/v10",
        "/v1/../admin",
        "/v1/%2e%2E/admin",
        "/v1/..;a/b",
        "/v1/..%2fb",
        "/v1\\..\\b",
        "/v1/%252e%252e/b",
        "/v1/%c0%ae%c0%ae/b",
        "/v1/\u{ff0e}\u{ff0e}/b",
        "/v1/%ef%bc%8e%EF%BC%8E/b",
        "/v1/a%00",
        "/v1/%0d%0a",
        "",
    ] {
        assert!(!allows(outside), "{outside}");
    }
    assert!(!grant.allows("POST", HttpScheme::Https, "a.com", 443, "/v1"));
    assert!(!grant.allows("GET", HttpScheme::Http, "a.com", 443, "/v1"));
    assert!(!grant.allows("GET", HttpScheme::Https, "a.com", 444, "/v1"));
    assert!(http("a.com").allows("PUT", HttpScheme::Http, "a.com", 80, "/../x"));
    assert!(!http("a.com").allows("PUT", HttpScheme::Http, "a.com", 443, "/"));
    assert!(http("a.com:8080").allows("PUT", HttpScheme::Http, "a.com", 8080, "/"));
}

#[test]
fn a_module_replaces_variables_and_folders_of_all_modules() {
    let mut table = GrantTable::default();
    let env = |text: &str| Grant::Env(text.parse().expect("a grant"));
    table.add(None, env("MODE=all")).expect("granted");
    table.add(None, Grant::Http(http("a.com"))).expect("granted");
    table.add(Some("mail"), env("MODE=mail")).expect("granted");
    table.add(Some("mail"), Grant::Http(http("b.com"))).expect("granted");
    let values = |module: &str| table.of(module).env.iter().map(|env| env.value.clone()).collect::<Vec<_>>();
    assert_eq!((values("mail"), values("other")), (vec!["mail".to_owned()], vec!["all".to_owned()]));
    assert_eq!(table.of("mail").names(), ["env:MODE", "http:a.com", "http:b.com"]);

    let mut twice = table.clone();
    assert_eq!(twice.add(None, env("MODE=all")), Ok(()));
    assert!(twice.add(None, env("MODE=other")).is_err_and(|error| error.to_string().contains("MODE is granted twice")));
}

#[test]
fn a_need_is_met_by_a_grant_that_includes_it() {
    let mut table = GrantTable::default();
    let folder = std::env::temp_dir();
    let dir = DirGrant::new(&folder, "/data", DirAccess::ReadOnly).expect("a folder");
    let secret =
        SecretGrant { name: "KEY".into(), source: SecretSource::Variable("K".into()), value: "abcd".to_owned().into() };
    let grants = [
        Grant::Dir(dir),
        Grant::Secret(secret),
        Grant::Http(http("*.a.com/v1")),
        Grant::Tcp("db:1".parse().expect("a grant")),
    ];
    for grant in grants {
        table.add(None, grant).expect("granted");
    }
    let grants = table.of("any");
    let is_met = |text: &str| text.parse().is_ok_and(|need: Need| need.is_met_by(&grants));
    for met in ["env:KEY", "secret:KEY", "dir:/data:ro", "http:x.a.com/v1/y", "http:https://x.a.com/v1#GET", "tcp:db:1"]
    {
        assert!(is_met(met), "{met}");
    }
    for unmet in
        ["env:OTHER", "dir:/data", "dir:/", "http:x.a.com", "http:a.com/v1", "http:x.a.com:8080/v1", "tcp:db:2"]
    {
        assert!(!is_met(unmet), "{unmet}");
    }
    let needs: Vec<Need> = ["secret:KEY", "tcp:db:2"].iter().map(|text| text.parse().expect("a need")).collect();
    assert_eq!(grants.missing(&needs), ["tcp:db:2"]);
}

#[test]
fn a_grant_for_one_module_starts_with_its_name() {
    let module = |text: &str| text.parse().ok().and_then(|scoped: Scoped<EnvGrant>| scoped.module);
    assert_eq!(module("mail@A=b"), Some("mail".into()));
    assert_eq!(module("A=b@c"), None);
    let tcp: Scoped<TcpGrant> = "db-tasks@db:5432".parse().expect("a grant");
    assert_eq!((tcp.module.as_deref(), tcp.grant.to_string()), (Some("db-tasks"), "db:5432".into()));
}

#[test]
fn a_secret_is_read_from_a_file_and_never_shown() {
    let path = std::env::temp_dir().join(format!("fastworker-secret-{}", std::process::id()));
    std::fs::write(&path, "pass word\r\n").expect("a file");
    let secret: Result<SecretGrant, _> = format!("KEY=file:{}", path.display()).parse();
    std::fs::remove_file(&path).expect("removed");
    let secret = secret.expect("a grant");
    assert_eq!(secret.value.reveal(), "pass word");
    assert!(!format!("{secret:?} {secret}").contains("pass word"));
}

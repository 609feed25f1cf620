//! What a configuration file may be, what its problems are called, and that the example tells the truth.

use std::collections::BTreeSet;

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new(FILE)).map_err(|problems| problems.to_string())
}

/// A file's text with what is commented out, but for prose, put in.
fn uncommented(text: &str) -> String {
    let is_setting = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        let named = line.contains(" = ") && key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
        named || (line.starts_with('[') && line.ends_with(']') && !line.contains(' '))
    };
    let lines = text.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_says_the_defaults() {
    assert_eq!(parse(EXAMPLE), Ok(Config::default()));
    assert_eq!(parse(""), Ok(Config::default()));
}

#[test]
fn the_example_misses_no_key_and_all_it_shows_is_right() {
    let text = uncommented(EXAMPLE);
    let config = parse(&text).expect("every value that is shown is right");
    assert_eq!(config.tls.expect("[tls] is shown").listen, tls_listen());
    let table: toml::Table = text.parse().expect("TOML");
    let mut shown = BTreeSet::new();
    for (name, value) in &table {
        match value.as_table() {
            Some(section) => shown.extend(section.keys().map(|key| format!("{name}.{key}"))),
            None => _ = shown.insert(name.clone()),
        }
    }
    assert_eq!(shown, Config::keys().into_iter().map(str::to_owned).collect());
}

#[test]
fn every_key_of_the_example_is_explained() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with("#  ") {
            let above = lines[..number].iter().rev().take_while(|above| above.starts_with('#')).next();
            assert!(above.is_some(), "line {}: {line} has no explanation above it", number + 1);
        }
    }
}

#[test]
fn a_written_file_is_right_and_safe() {
    let config = parse(&Config::written_for("example.org")).expect("right");
    assert_eq!(config.server_name, "example.org");
    assert_eq!(config.base_url(), "https://example.org");
    assert_eq!(config.registration, Registration::Closed);
    assert!(config.behind_proxy);
}

#[test]
fn all_problems_are_said_at_once_with_their_places_and_cures() {
    let text = "server_name = \"ex ample\"\nlissten = [\"127.0.0.1:1\"]\n  registration = \"opne\"\nmemory = \"1 MiB\"\n\
                max_connections = -3\nlog = \"=,=\"\ndata_dir = 5\npublic_url = \"example.org\"\n[tls]\ncertifcate = \"x\"\n";
    let problems = parse(text).expect_err("wrong");
    let wanted = [
        "hearth.toml:1:15: server_name: \"ex ample\" is not a server name: a domain is wanted, such as \"example.org\"",
        "hearth.toml:2:1: unknown key \"lissten\"; the nearest known key is \"listen\"",
        "hearth.toml:3:18: registration: \"open\", \"token\" or \"closed\" is wanted",
        "hearth.toml:4:10: memory: 8 MiB is the least that works",
        "hearth.toml:5:19: max_connections: a whole number from 16 up is wanted",
        "hearth.toml:6:7: log: \"=,=\" is not a log filter, such as \"info\" or \"warn,hearth::store=debug\"",
        "hearth.toml:7:12: data_dir: a text is wanted, such as \"/var/lib/hearth\"",
        "hearth.toml:8:14: public_url: \"example.org\" is not the address of a site, such as \"https://chat.example.org\"",
        "hearth.toml:9:2: [tls] needs \"certificate\"",
        "hearth.toml:9:2: [tls] needs \"key\"",
        "hearth.toml:10:1: unknown key \"tls.certifcate\"; the nearest known key is \"certificate\" in [tls]",
    ];
    assert_eq!(problems.lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn what_is_no_toml_is_said_with_its_place_too() {
    let problems = parse("server_name = \"a.b\"\nlisten = [\"127.0.0.1:1\"\nregistration = open\n").expect_err("wrong");
    assert!(problems.lines().all(|line| line.starts_with("hearth.toml:")), "{problems}");
    let problems = parse("log = \"info\"\nlog = \"warn\"\n").expect_err("twice");
    assert!(problems.starts_with("hearth.toml:2:"), "{problems}");
    let problems = parse("tls = true\n").expect_err("no section");
    assert!(problems.contains("a section [tls]"), "{problems}");
    let problems = parse("[tsl]\nkey = \"x\"\n").expect_err("unknown section");
    assert!(problems.contains("unknown key \"tsl\""), "{problems}");
}

#[test]
fn listening_nowhere_or_twice_is_a_problem() {
    assert!(parse("listen = []").expect_err("nowhere").contains("at least one address"));
    assert!(parse("listen = [\"[::1]:1\", \"[::1]:1\"]").expect_err("twice").contains("twice"));
    let tls_alone = "listen = []\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
    assert_eq!(parse(tls_alone).map(|config| config.local_url()), Ok("https://127.0.0.1:8448".into()));
}

#[test]
fn registration_is_open_by_default_only_where_nobody_else_comes() {
    let registration = |text: &str| parse(text).expect("right").registration;
    assert_eq!(registration("listen = [\"127.0.0.1:1\", \"[::1]:1\"]"), Registration::Open);
    assert_eq!(registration("listen = [\"127.0.0.1:1\", \"0.0.0.0:1\"]"), Registration::Closed);
    assert_eq!(registration("[tls]\ncertificate = \"c\"\nkey = \"k\""), Registration::Closed);
    assert_eq!(registration("behind_proxy = true"), Registration::Closed);
    assert_eq!(registration("public_url = \"https://example.org\""), Registration::Closed);
    assert_eq!(registration("registration = \"token\""), Registration::Token);
}

#[test]
fn a_secret_is_written_down_or_in_a_file_and_never_shown() {
    let with = |lines: &str| parse(&format!("[s3]\nbucket = \"files\"\naccess_key = \"me\"\n{lines}"));
    let bucket = with("secret_key = \"very secret\"").expect("right").bucket.expect("one");
    assert_eq!((&*bucket.region, &*bucket.prefix, bucket.endpoint.as_deref()), ("us-east-1", "", None));
    assert_eq!(bucket.secret_key.take(), Ok(Secret("very secret".into())));
    assert!(!format!("{bucket:?}").contains("very secret"));
    let elsewhere = with("secret_key_file = \"none.secret\"").expect("right").bucket.expect("one");
    assert!(elsewhere.secret_key.take().expect_err("not there").contains("none.secret can't be read"));
    assert!(with("").expect_err("none").contains("[s3] needs \"secret_key\" or \"secret_key_file\""));
    for wrong in ["prefix = \"/x\"", "prefix = \"a/../b\"", "region = \"\"", "endpoint = \"s3.example.org\""] {
        assert!(with(&format!("secret_key = \"x\"\n{wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn sizes_have_units() {
    let memory = |value: &str| parse(&format!("memory = {value}")).map(|config| config.memory);
    assert_eq!(memory("33554432"), Ok(32 << 20));
    assert_eq!(memory("\"32 MiB\""), Ok(32 << 20));
    assert_eq!(memory("\"1gb\""), Ok(1_000_000_000));
    for wrong in ["\"32\"", "\"32 parsecs\"", "\"MiB\"", "\"99999999999 GiB\"", "3.5", "\"\""] {
        assert!(memory(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn paths_are_seen_from_the_file() {
    let text = "data_dir = \"data\"\nweb_root = \"/srv/web\"";
    let config = Config::parse(text, Path::new("/etc/hearth/hearth.toml")).expect("right");
    assert_eq!(config.data_dir, Path::new("/etc/hearth/data"));
    assert_eq!(config.web_root.as_deref(), Some(Path::new("/srv/web")));
}

#[test]
fn clients_are_told_an_address_that_they_can_reach() {
    let url = |text: &str| parse(text).expect("right").base_url();
    assert_eq!(url(""), "http://127.0.0.1:8008");
    assert_eq!(url("listen = [\"0.0.0.0:80\"]"), "http://127.0.0.1:80");
    assert_eq!(url("listen = [\"[::]:80\"]"), "http://[::1]:80");
    assert_eq!(url("server_name = \"example.org\""), "https://example.org");
    assert_eq!(
        url("server_name = \"example.org\"\npublic_url = \"https://chat.example.org/\""),
        "https://chat.example.org"
    );
    let tls = "server_name = \"example.org\"\n[tls]\ncertificate = \"c\"\nkey = \"k\"";
    assert_eq!(url(tls), "https://example.org:8448");
}

//! The tables of `spec/`, held against the router: what they list is what is spoken.

use std::{collections::BTreeMap, fs};

use crate::common::repository;

/// (method, path) to who may call.
type Endpoints = BTreeMap<(String, String), String>;

/// What the page says: its table rows of the form `| GET | /path | token | … |`.
fn written() -> Endpoints {
    let page = fs::read_to_string(repository("spec/README.md")).expect("the page");
    let mut out = Endpoints::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", method, path, auth, _, ""] = cells[..] else { continue };
        let Some(path) = path.strip_prefix("`/").and_then(|path| path.strip_suffix('`')) else { continue };
        let twice = out.insert((method.to_owned(), format!("/{path}")), auth.to_owned());
        assert!(twice.is_none(), "twice in spec/README.md: {line}");
    }
    out
}

/// What the router has, without the older prefixes under which it repeats the v3 paths.
fn spoken() -> Endpoints {
    let routes = hearth::routes(&hearth::config::Config::default());
    let all: Endpoints =
        routes.listed().map(|(method, path, who)| ((method.to_owned(), path.to_owned()), who.to_owned())).collect();
    let repeated = |(method, path): &(String, String)| {
        ["/_matrix/client/r0/", "/_matrix/client/unstable/"].iter().any(|prefix| {
            let rest = path.strip_prefix(prefix);
            rest.is_some_and(|rest| all.contains_key(&(method.clone(), format!("/_matrix/client/v3/{rest}"))))
        })
    };
    all.iter().filter(|(key, _)| !repeated(key)).map(|(key, who)| (key.clone(), who.clone())).collect()
}

/// The table as it should be, with the notes that are there.
fn table(spoken: &Endpoints) -> String {
    let page = fs::read_to_string(repository("spec/README.md")).expect("the page");
    let note = |method: &str, path: &str| {
        let begin = format!("| {method} | `{path}` |");
        let line = page.lines().find(|line| line.starts_with(&begin));
        line.and_then(|line| line.split('|').nth(4)).unwrap_or_default().trim().to_owned()
    };
    let mut all: Vec<_> = spoken.iter().collect();
    all.sort_by_key(|((method, path), _)| (path, method));
    all.into_iter()
        .map(|((method, path), who)| format!("| {method} | `{path}` | {who} | {} |\n", note(method, path)))
        .collect()
}

#[test]
fn the_page_lists_what_is_spoken() {
    let (written, spoken) = (written(), spoken());
    let differ = |one: &Endpoints, other: &Endpoints| {
        let rest = one.iter().filter(|(key, who)| other.get(*key) != Some(who));
        rest.map(|((method, path), who)| format!("  {method} {path} ({who})\n")).collect::<String>()
    };
    assert!(
        written == spoken,
        "spec/README.md misses:\n{}and has what is not so:\n{}The table should be:\n{}",
        differ(&spoken, &written),
        differ(&written, &spoken),
        table(&spoken)
    );
}

#[test]
fn the_page_is_sorted() {
    let page = fs::read_to_string(repository("spec/README.md")).expect("the page");
    for section in page.split("\n## ") {
        let paths: Vec<&str> =
            section.lines().filter(|line| line.contains("| `/")).filter_map(|line| line.split('`').nth(1)).collect();
        assert!(paths.is_sorted(), "sort the rows of each table of spec/README.md by path");
    }
}

/// What `spec/federation.md` says that a test shows, a test of that name shows: one of whole servers in
/// `tests/`, or one beside what it tests.
#[test]
fn the_tests_that_the_threat_model_names_are_there() {
    let page = fs::read_to_string(repository("spec/federation.md")).expect("the page");
    let threats = page.split_once("## Threat model").expect("a threat model").1;
    let units = sources(&repository("homeserver"));
    let mut found = 0;
    for name in threats.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
        let (place, test) = name.rsplit_once("::").expect("a path");
        // A module by itself stands for its tests.
        if test.len() < 15 {
            continue;
        }
        let text = match place.starts_with("federation_") {
            true => fs::read_to_string(repository(&format!("tests/{place}.rs"))).expect("the file"),
            false => units.clone(),
        };
        assert!(text.contains(&format!("fn {test}(")), "there is no test {name}");
        found += 1;
    }
    assert!(found > 30, "{found} tests are named");
}

/// What `spec/versions.md` says that a test shows, a test of that name shows; and every version that is listed has
/// its part there.
#[test]
fn the_tests_that_hold_the_versions_are_there() {
    let page = fs::read_to_string(repository("spec/versions.md")).expect("the page");
    let mut found = 0;
    for name in page.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
        let (file, test) = name.split_once("::").expect("a path");
        let text = fs::read_to_string(repository(&format!("tests/{file}.rs"))).expect("the file");
        assert!(text.contains(&format!("fn {test}(")), "there is no test {name}");
        found += 1;
    }
    assert!(found > 20, "{found} tests are named");
    let listed = fs::read_to_string(repository("homeserver/client_api/discovery.rs")).expect("the file");
    for version in 12..=19 {
        assert!(page.contains(&format!("## v1.{version}\n")) && listed.contains(&format!("\"v1.{version}\"")));
    }
}

/// All source text below a folder.
fn sources(folder: &std::path::Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => text += &sources(&path),
            false if path.extension().is_some_and(|kind| kind == "rs") => {
                text += &fs::read_to_string(&path).expect("text");
            }
            false => {}
        }
    }
    text
}

//! The plan of the house, held against its walls: which module may use which, through which door each
//! dependency comes in, and what no file may be.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::common::repository;

/// From the ground up: a module may use itself and what stands before it. `lib.rs`, which wires all,
/// and `main.rs` stand above.
const LAYERS: &[&str] = &[
    "error",
    "base",
    "config",
    "limits",
    "outside",
    "store",
    "accounts",
    "hasher",
    "oauth",
    "rooms",
    "indexer",
    "e2ee",
    "notify",
    "federation",
    "media",
    "push",
    "sync",
    "appservice",
    "app",
    "backup",
    "http",
    "client_api",
    "federation_api",
    "start",
    "dev_cert",
    "lib",
];

/// Dependencies that come in by one door each: (crate, where it may be named).
const DOORS: &[(&str, &[&str])] = &[
    ("redb", &["store/"]),
    ("hyper", &["http/"]),
    ("hyper_util", &["http/"]),
    ("matchit", &["http/"]),
    ("tokio_tungstenite", &["http/websocket.rs"]),
    ("futures_util", &["http/websocket.rs"]),
    ("rustls", &["http/tls.rs", "outside/"]),
    ("tokio_rustls", &["http/", "start.rs"]),
    ("reqwest", &["outside/", "federation/", "push/", "media/"]),
    ("hickory_resolver", &["outside/"]),
    ("rcgen", &["dev_cert.rs"]),
    ("governor", &["limits.rs"]),
    ("argon2", &["accounts/"]),
    ("image", &["media/"]),
    ("gif", &["media/moving.rs"]),
    ("object_store", &["media/bucket.rs"]),
    ("toml", &["config/"]),
    ("regex", &["appservice/"]),
    ("saphyr_parser", &["appservice/yaml.rs"]),
    ("clap", &["main.rs"]),
];

/// Layers of rules: plain functions over transactions.
const NEVER_ASYNC: [&str; 3] = ["accounts/", "rooms/", "e2ee/"];

const MAX_FILE: usize = 600;
const MAX_FUNCTION: usize = 60;

/// A source file: its path from its root, all of its text, and what of it is not for tests.
struct Source {
    path: String,
    text: String,
    code: String,
}

/// The Rust files below a folder of the repository.
fn sources(folder: &str) -> Vec<Source> {
    let root = repository(folder);
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("readable");
        let path = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
        let rules = if path.ends_with("tests.rs") || path.contains("/tests/") {
            ""
        } else {
            text.split("#[cfg(test)]").next().unwrap_or_default()
        };
        let code = rules.lines().map(without_comment).collect::<Vec<_>>().join("\n");
        Source { path, text, code }
    };
    let sources: Vec<Source> = paths.into_iter().map(read).collect();
    assert!(!sources.is_empty(), "{folder} has no Rust files");
    sources
}

fn collect(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() && ["node_modules", "target"].iter().any(|made| path.ends_with(made)) => {}
            _ if path.is_dir() => collect(&path, out),
            Some("rs") => out.push(path),
            _ => {}
        }
    }
}

fn without_comment(line: &str) -> &str {
    let is_comment = |at: &usize| *at == 0 || line[..*at].ends_with(char::is_whitespace);
    line.match_indices("//").map(|(at, _)| at).find(is_comment).map_or(line, |at| &line[..at])
}

/// Fails with all complaints, sorted.
#[track_caller]
fn hold(complaints: impl IntoIterator<Item = String>) {
    let complaints: BTreeSet<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "{}", complaints.into_iter().collect::<Vec<_>>().join("\n"));
}

/// The modules that a text names right after `crate::`, also within `crate::{a::X, b}`.
fn modules_used(code: &str) -> BTreeSet<&str> {
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with('$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            used.insert(name_at_start(rest));
            continue;
        };
        let (mut depth, mut fresh) = (0, true);
        for (at, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                _ if fresh && !letter.is_whitespace() => {
                    used.insert(name_at_start(&group[at..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    used
}

fn name_at_start(text: &str) -> &str {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default()
}

fn layer_of(path: &str) -> &str {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// What is wrong with the imports of a file.
fn imports_upwards(path: &str, code: &str) -> Vec<String> {
    let own = layer_of(path);
    let rank = |layer: &str| LAYERS.iter().position(|known| *known == layer);
    let Some(own_rank) = rank(own) else {
        return vec![format!("{path}: {own} is no layer: give it a place in LAYERS")];
    };
    let upwards = |used: &&str| rank(used).is_some_and(|rank| rank > own_rank);
    let mut out: Vec<String> = modules_used(code)
        .into_iter()
        .filter(upwards)
        .map(|used| format!("{path}: uses {used}, which is above"))
        .collect();
    // At the root of a layer `super` is the whole crate.
    let at_root = path == format!("{own}.rs") || path == format!("{own}/mod.rs");
    if own != "lib" && (code.contains("super::super::") || (at_root && code.contains("super::"))) {
        out.push(format!("{path}: goes out of its layer by super:: instead of crate::"));
    }
    out
}

#[test]
fn imports_point_downwards() {
    let all = sources("homeserver").into_iter().filter(|source| !matches!(&*source.path, "main.rs" | "build.rs"));
    hold(all.flat_map(|source| imports_upwards(&source.path, &source.code)));
}

#[test]
fn an_import_that_points_upwards_is_noticed() {
    let upwards = |path: &str, code: &str| !imports_upwards(path, code).is_empty();
    assert!(upwards("rooms/event.rs", "use crate::client_api::routes;"));
    assert!(upwards("rooms/event.rs", "use crate::{store::{Read, tables}, http::Session};"));
    assert!(upwards("rooms/event.rs", "let app: crate::app::App = x;"));
    assert!(upwards("rooms/mod.rs", "use super::app::App;"));
    assert!(upwards("rooms/event.rs", "use super::super::app::App;"));
    assert!(upwards("kitchen/sink.rs", ""));
    assert!(!upwards("rooms/event.rs", "use crate::{store::{Read, http}, rooms::auth, accounts};\nuse super::auth;"));
}

#[test]
fn each_dependency_has_its_door() {
    let mut wrong = Vec::new();
    for Source { path, code, .. } in sources("homeserver") {
        for (name, doors) in DOORS {
            let is_word =
                |at: usize| !code[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before));
            let named = code.match_indices(&format!("{name}::")).any(|(at, _)| is_word(at));
            if named && !doors.iter().any(|door| path.starts_with(door)) {
                wrong.push(format!("{path}: names {name}, which belongs in {}", doors.join(", ")));
            }
        }
    }
    hold(wrong);
}

#[test]
fn rules_never_wait() {
    let rules =
        sources("homeserver").into_iter().filter(|file| NEVER_ASYNC.iter().any(|layer| file.path.starts_with(layer)));
    let waits =
        |file: &Source| ["async fn ", "async move", "async {", ".await"].iter().any(|word| file.code.contains(word));
    hold(rules.filter(waits).map(|file| format!("{}: is async", file.path)));
}

#[test]
fn files_open_with_what_they_own() {
    let all = sources("homeserver").into_iter().chain(sources("tests"));
    hold(all.filter(|file| !file.text.starts_with("//! ")).map(|file| format!("{}: has no //! header", file.path)));
}

#[test]
fn files_and_functions_stay_small() {
    let mut wrong = Vec::new();
    for Source { path, text, .. } in sources("homeserver").into_iter().chain(sources("tests")) {
        let lines = text.lines().count();
        if lines > MAX_FILE {
            wrong.push(format!("{path}: {lines} lines"));
        }
        let long = functions(&text).into_iter().filter(|(_, lines)| *lines > MAX_FUNCTION);
        wrong.extend(long.map(|(name, lines)| format!("{path}: fn {name} has {lines} lines")));
    }
    hold(wrong);
}

/// The functions of a formatted file, with their lengths: a body ends at the indentation it began at.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut out = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let Some(rest) = ["", "pub ", "pub(super) ", "pub(crate) "].iter().find_map(|open| {
            let rest = line.trim_start().strip_prefix(open)?;
            ["fn ", "async fn ", "const fn "].iter().find_map(|word| rest.strip_prefix(word))
        }) else {
            continue;
        };
        if line.ends_with('}') || line.ends_with(';') {
            continue;
        }
        let ends =
            |line: &&str| indent(line) == indent(lines[number]) && (line.ends_with(';') || line.trim_start() == "}");
        let length = lines[number + 1..].iter().position(ends).map_or(1, |at| at + 2);
        out.push((name_at_start(rest), length));
    }
    out
}

#[test]
fn functions_are_measured() {
    let text = "impl X {\n    pub fn one(\n        a: u8,\n    ) -> u8 {\n        if a {\n        }\n        a\n    }\n    fn two() {}\n}\n";
    assert_eq!(functions(text), [("one", 7)]);
}

#[test]
fn nothing_is_left_for_later_and_nothing_may_panic_carelessly() {
    // In pieces, so that they don't find themselves.
    let words =
        [["TO", "DO"], ["FIX", "ME"], ["for", " now"], ["place", "holder"], ["unimple", "mented!"], ["todo", "!("]];
    let mut wrong = Vec::new();
    for file in sources("homeserver").into_iter().chain(sources("tests")) {
        let found = words.iter().map(|word| word.concat()).filter(|word| file.text.contains(word.as_str()));
        wrong.extend(found.map(|word| format!("{}: says {word:?}", file.path)));
    }
    for file in sources("homeserver") {
        let careless =
            [".unwrap()", "unsafe {", "unsafe fn", "unsafe impl"].into_iter().filter(|word| file.code.contains(word));
        wrong.extend(careless.map(|word| format!("{}: has {word}", file.path)));
    }
    hold(wrong);
}

//! Reading a TOML document key by key, collecting every problem on the way. Knows no setting: what
//! is asked for is what is known, so that a key can't be read and yet be called unknown.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{Problem, values};

/// A document that is being read. Keys are named with their section: `tls.key`.
pub struct Reader<'a> {
    root: &'a DeTable<'a>,
    folder: &'a Path,
    /// Byte offsets, if a problem has one, and texts.
    problems: Vec<(Option<usize>, String)>,
    known: Vec<&'static str>,
}

/// A key of the document: where it is, what it holds.
struct Entry<'a> {
    name: String,
    at: usize,
    value_at: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Reader<'a> {
    pub fn new(root: &'a DeTable<'a>, folder: &'a Path) -> Self {
        Self { root, folder, problems: Vec::new(), known: Vec::new() }
    }

    /// The value of a key, if it is there and right.
    pub fn value<T>(&mut self, key: &'static str, parse: impl FnOnce(&DeValue) -> Result<T, String>) -> Option<T> {
        self.known.push(key);
        let found = self.entries().into_iter().find(|entry| entry.name == key)?;
        parse(found.value).map_err(|wanted| self.problem(Some(found.value_at), &format!("{key}: {wanted}"))).ok()
    }

    /// A path, seen from the folder that the file is in.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let folder = self.folder;
        self.value(key, |value| Ok(folder.join(values::path(value)?)))
    }

    /// An array of paths.
    pub fn paths(&mut self, key: &'static str) -> Option<Vec<PathBuf>> {
        let folder = self.folder;
        self.value(key, |value| Ok(values::paths(value)?.into_iter().map(|path| folder.join(path)).collect()))
    }

    /// Says that a section, if it is there, must have one of these keys.
    pub fn require_one(&mut self, section: &str, keys: [&str; 2]) {
        let entries = self.entries();
        let Some(at) = entries.iter().find(|entry| entry.name == section).map(|entry| entry.at) else { return };
        let [one, other] = keys.map(|key| key.rsplit('.').next().unwrap_or(key));
        if !entries.iter().any(|entry| keys.contains(&&*entry.name)) {
            self.problem(Some(at), &format!("[{section}] needs \"{one}\" or \"{other}\""));
        }
    }

    /// Says that a section, if it is there, must have these keys.
    pub fn require(&mut self, section: &str, keys: &[&str]) {
        let Some(at) = self.root.keys().find(|key| key.get_ref() == section).map(|key| key.span().start) else {
            return;
        };
        let names: Vec<String> = self.entries().into_iter().map(|entry| entry.name).collect();
        for key in keys.iter().filter(|key| !names.iter().any(|name| name == *key)) {
            let short = key.rsplit('.').next().unwrap_or(key);
            self.problem(Some(at), &format!("[{section}] needs \"{short}\""));
        }
    }

    /// Notes a problem at a byte of the text.
    pub fn problem(&mut self, at: Option<usize>, text: &str) {
        self.problems.push((at, text.to_owned()));
    }

    /// Notes a problem with a key that may be missing.
    pub fn problem_at(&mut self, key: &str, text: &str) {
        let at = self.entries().into_iter().find(|entry| entry.name == key).map(|entry| entry.value_at);
        self.problem(at, &format!("{key}: {text}"));
    }

    /// The keys that were asked for.
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// All problems in the order of the text, those with keys that nobody asked for among them.
    pub fn finish(mut self, text: &str) -> Vec<Problem> {
        for Entry { name, at, value, .. } in self.entries() {
            let is_section = self.known.iter().any(|key| key.starts_with(&format!("{name}.")));
            if is_section && !matches!(value, DeValue::Table(_)) {
                self.problem(Some(at), &format!("{name}: a section [{name}] with its keys below it is wanted"));
            } else if !is_section && !self.known.contains(&&*name) {
                let nearest = self.nearest(&name);
                self.problem(Some(at), &format!("unknown key {name:?}; the nearest known key is {nearest}"));
            }
        }
        self.problems.sort();
        self.problems.dedup();
        let place = |at| Some(line_and_column(text, at?));
        self.problems.into_iter().map(|(at, text)| Problem { place: place(at), text }).collect()
    }

    /// The keys of the document and of its sections. The keys of an unknown section are its own affair.
    fn entries(&self) -> Vec<Entry<'a>> {
        let mut entries = Vec::new();
        for (key, value) in self.root {
            let name = key.get_ref().to_string();
            if let DeValue::Table(table) = value.get_ref()
                && self.known.iter().any(|known| known.starts_with(&format!("{name}.")))
            {
                entries.extend(table.iter().map(|(inner, value)| Entry {
                    name: format!("{name}.{}", inner.get_ref()),
                    at: inner.span().start,
                    value_at: value.span().start,
                    value: value.get_ref(),
                }));
            }
            entries.push(Entry { name, at: key.span().start, value_at: value.span().start, value: value.get_ref() });
        }
        entries
    }

    /// The known key that a wrong one is likest to, in words.
    fn nearest(&self, wrong: &str) -> String {
        let split = |key: &str| {
            let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
            (section.to_owned(), name.to_owned())
        };
        let (section, name) = split(wrong);
        let likeness = |key: &str| {
            let (other_section, other) = split(key);
            strsim::jaro_winkler(&name, &other) + if section == other_section { 0.1 } else { 0.0 }
        };
        let nearest = self.known.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
        match nearest.and_then(|key| key.split_once('.')) {
            Some((section, key)) => format!("{key:?} in [{section}]"),
            None => nearest.map_or_else(String::new, |key| format!("{key:?}")),
        }
    }
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

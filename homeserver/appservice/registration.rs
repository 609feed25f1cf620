//! The registration of an application service: a YAML file that the administrator has been given by the
//! bridge or bot, and names in the settings. Everything in it is checked when the server starts, and by
//! `hearth check`. spec: application-service-api#registration

use std::{collections::HashSet, fs, path::Path};

use regex::bytes::{Regex, RegexBuilder};
use ruma::{OwnedUserId, ServerName};

use super::yaml::{self, Node};
use crate::accounts::users;

/// Bytes of a file at most.
const MAX_FILE: u64 = 256 * 1024;
/// Application services at most.
const MAX_SERVICES: usize = 64;
/// Namespaces of one kind, and protocols, that one has at most.
const MAX_LIST: usize = 100;
/// Bytes of a pattern, an ID, a token and a name at most.
const MAX_TEXT: usize = 1024;
/// Bytes that a pattern may take once it is compiled.
const MAX_COMPILED: usize = 1 << 20;

/// What an application service has a claim to, by a pattern.
pub struct Namespace {
    /// Nobody else may have what matches.
    pub exclusive: bool,
    pattern: Regex,
}

impl Namespace {
    /// Whether an ID or alias is in it. Patterns are held to the beginning alone, as bridges are used to.
    pub fn has(&self, text: &str) -> bool {
        self.pattern.is_match(text.as_bytes())
    }
}

/// What a file says. Not to be printed: it holds two secrets.
pub struct Registration {
    /// What it is called among all.
    pub id: String,
    /// Where it is reached, without a slash at the end; nowhere if it wants to be told nothing.
    pub url: Option<String>,
    /// How it proves who it is.
    pub as_token: String,
    /// How we prove who we are.
    pub hs_token: String,
    /// The account that it acts as unless it says otherwise.
    pub sender: OwnedUserId,
    /// Accounts of this server.
    pub users: Vec<Namespace>,
    /// Aliases.
    pub aliases: Vec<Namespace>,
    /// Rooms, by their IDs.
    pub rooms: Vec<Namespace>,
    /// Whether its people are limited as others are.
    pub rate_limited: bool,
    /// The networks that it leads to.
    pub protocols: Vec<String>,
    /// It wants to know who types, who has read what and who is there.
    pub ephemeral: bool,
    /// It says so by the name from before that was part of the spec, and listens to those names.
    pub old_names: bool,
    /// It keeps the keys of its people itself, and wants to know what their devices have to know.
    pub encryption: bool,
}

/// All of these files. An error says everything that is wrong with them.
pub fn load(files: &[impl AsRef<Path>], server: &ServerName) -> Result<Vec<Registration>, String> {
    let (mut good, mut problems) = (Vec::new(), Vec::new());
    if files.len() > MAX_SERVICES {
        return Err(format!("app_services: {MAX_SERVICES} files are the most that are taken"));
    }
    for file in files {
        let file = file.as_ref();
        match text_of(file).and_then(|text| read(&text, server)) {
            Ok(registration) => good.push((file, registration)),
            Err(list) => problems.extend(list.into_iter().map(|problem| format!("{}{problem}", file.display()))),
        }
    }
    let (mut ids, mut tokens) = (HashSet::new(), HashSet::new());
    for (file, registration) in &good {
        let file = file.display();
        if !ids.insert(&registration.id) {
            problems.push(format!("{file}: another application service has the id {:?} too", registration.id));
        }
        if !tokens.insert(&registration.as_token) {
            problems.push(format!("{file}: another application service has the same as_token: generate another"));
        }
    }
    match problems.is_empty() {
        true => Ok(good.into_iter().map(|(_, registration)| registration).collect()),
        false => Err(problems.join("\n")),
    }
}

fn text_of(file: &Path) -> Result<String, Vec<String>> {
    let size = fs::metadata(file).map_err(|error| vec![format!(": can't be read: {error}")])?.len();
    if size > MAX_FILE {
        return Err(vec![format!(": a registration of more than {} KiB is not taken", MAX_FILE / 1024)]);
    }
    fs::read_to_string(file).map_err(|error| vec![format!(": can't be read: {error}")])
}

/// The registration in a text; or all that is wrong with it, each beginning with `:`, the line and `:`.
pub fn read(text: &str, server: &ServerName) -> Result<Registration, Vec<String>> {
    let root = yaml::parse(text).map_err(|(line, why)| vec![format!(":{line}: {why}")])?;
    let mut reader = Reader { root: &root, problems: Vec::new() };
    let registration = reader.registration(server);
    match registration.filter(|_| reader.problems.is_empty()) {
        Some(registration) => Ok(registration),
        None => Err(reader.problems),
    }
}

struct Reader<'a> {
    root: &'a Node,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    fn registration(&mut self, server: &ServerName) -> Option<Registration> {
        // All are read before the first that is missing ends it, so that all problems are said.
        let id = self.required("id", "a text, such as irc");
        let (as_token, hs_token) = (self.token("as_token"), self.token("hs_token"));
        let (url, sender) = (self.url(), self.sender(server));
        let namespaces = self.namespaces();
        let (rate_limited, protocols) = (self.boolean("rate_limited"), self.protocols());
        let stable = self.boolean("receive_ephemeral");
        let old = self.boolean("de.sorunome.msc2409.push_ephemeral") || self.boolean("push_ephemeral");
        let encryption = self.boolean("org.matrix.msc3202");
        let [users, aliases, rooms] = namespaces?;
        Some(Registration {
            id: id?,
            url: url?,
            as_token: as_token?,
            hs_token: hs_token?,
            sender: sender?,
            users,
            aliases,
            rooms,
            rate_limited,
            protocols,
            ephemeral: stable || old,
            old_names: !stable,
            encryption,
        })
    }

    fn problem(&mut self, line: usize, text: impl std::fmt::Display) {
        self.problems.push(format!(":{line}: {text}"));
    }

    fn required(&mut self, key: &str, wanted: &str) -> Option<String> {
        let Some(node) = self.root.get(key) else {
            self.problem(self.root.line, format!("{key} is missing: {wanted}"));
            return None;
        };
        let text = node.text().filter(|text| !text.is_empty() && text.len() <= MAX_TEXT);
        if text.is_none() {
            self.problem(node.line, format!("{key}: {wanted} is wanted, of at most {MAX_TEXT} bytes"));
        }
        text.map(str::to_owned)
    }

    /// A secret, which no message repeats.
    fn token(&mut self, key: &str) -> Option<String> {
        let wanted = "a secret text without spaces";
        let text = self.required(key, wanted)?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let line = self.root.get(key).map_or(0, |node| node.line);
            self.problem(line, format!("{key}: {wanted} is wanted, as it is sent in a header"));
            return None;
        }
        Some(text)
    }

    fn url(&mut self) -> Option<Option<String>> {
        let wanted = "http://localhost:29318 for example, or null if it wants to be told nothing";
        let Some(node) = self.root.get("url") else {
            self.problem(self.root.line, format!("url is missing: {wanted}"));
            return None;
        };
        if node.is_null() || node.text() == Some("") {
            return Some(None);
        }
        let fits = |url: &url::Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
        };
        let text = node.text().unwrap_or_default().trim_end_matches('/');
        match url::Url::parse(text).ok().filter(fits) {
            Some(_) => Some(Some(text.to_owned())),
            None => {
                self.problem(node.line, format!("url: an address is wanted, {wanted}"));
                None
            }
        }
    }

    fn sender(&mut self, server: &ServerName) -> Option<OwnedUserId> {
        let name = self.required("sender_localpart", "the name of its account, such as ircbot")?;
        let sender = users::wished(&name, server);
        if sender.is_err() {
            let line = self.root.get("sender_localpart").map_or(0, |node| node.line);
            self.problem(line, format!("sender_localpart: {name:?} can't be the name of an account"));
        }
        sender.ok()
    }

    fn boolean(&mut self, key: &str) -> bool {
        let Some(node) = self.root.get(key).filter(|node| !node.is_null()) else { return false };
        let value = node.boolean();
        if value.is_none() {
            self.problem(node.line, format!("{key}: true or false is wanted"));
        }
        value.unwrap_or_default()
    }

    fn protocols(&mut self) -> Vec<String> {
        let Some(node) = self.root.get("protocols").filter(|node| !node.is_null()) else { return Vec::new() };
        let names = node.list().filter(|list| list.len() <= MAX_LIST);
        let names = names.and_then(|list| list.iter().map(|item| item.text().map(str::to_owned)).collect());
        if names.is_none() {
            self.problem(node.line, format!("protocols: a list of at most {MAX_LIST} texts is wanted"));
        }
        names.unwrap_or_default()
    }

    fn namespaces(&mut self) -> Option<[Vec<Namespace>; 3]> {
        let Some(node) = self.root.get("namespaces") else {
            self.problem(self.root.line, "namespaces is missing: users, aliases and rooms, each a list");
            return None;
        };
        let found = ["users", "aliases", "rooms"].map(|kind| self.list(node, kind));
        let [Some(users), Some(aliases), Some(rooms)] = found else { return None };
        Some([users, aliases, rooms])
    }

    fn list(&mut self, namespaces: &'a Node, kind: &str) -> Option<Vec<Namespace>> {
        let Some(node) = namespaces.get(kind).filter(|node| !node.is_null()) else { return Some(Vec::new()) };
        let Some(items) = node.list().filter(|items| items.len() <= MAX_LIST) else {
            self.problem(node.line, format!("namespaces.{kind}: a list of at most {MAX_LIST} namespaces is wanted"));
            return None;
        };
        items.iter().map(|item| self.namespace(item, kind)).collect()
    }

    fn namespace(&mut self, item: &Node, kind: &str) -> Option<Namespace> {
        let text = item.get("regex").and_then(Node::text).filter(|text| text.len() <= MAX_TEXT);
        let exclusive = item.get("exclusive").map_or(Some(false), Node::boolean);
        let (Some(text), Some(exclusive)) = (text, exclusive) else {
            self.problem(
                item.line,
                format!("namespaces.{kind}: \"exclusive: true\" or false and \"regex\" are wanted"),
            );
            return None;
        };
        // Of bytes: IDs are compared as they are written, and no tables of Unicode are needed for it.
        let pattern = RegexBuilder::new(&format!(r"\A(?:{text})")).unicode(false).size_limit(MAX_COMPILED).build();
        match pattern {
            Ok(pattern) => Some(Namespace { exclusive, pattern }),
            Err(error) => {
                let why = error.to_string().replace('\n', " ");
                self.problem(item.line, format!("namespaces.{kind}: {text:?} can't be used as a pattern: {why}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    const GOOD: &str = "id: irc\nurl: http://127.0.0.1:1234/\nas_token: 30c05e90\nhs_token: \"312df\"\n\
        sender_localpart: _irc_bot\nnamespaces:\n  users:\n  - exclusive: true\n    regex: '@_irc_.*'\n\
        \x20 aliases:\n  - {exclusive: false, regex: '#_irc_.*'}\n  rooms: []\n\
        rate_limited: false\nprotocols: [irc]\nde.sorunome.msc2409.push_ephemeral: true\nunknown: {}\n";

    fn problems(text: &str) -> Vec<String> {
        read(text, server_name!("b.c")).err().unwrap_or_default()
    }

    #[test]
    fn a_registration_is_read_as_bridges_write_it() {
        let read = read(GOOD, server_name!("b.c")).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!((read.url.as_deref(), read.sender.as_str()), (Some("http://127.0.0.1:1234"), "@_irc_bot:b.c"));
        assert_eq!((read.as_token.as_str(), read.hs_token.as_str()), ("30c05e90", "312df"));
        assert!(read.users[0].has("@_irc_anna:b.c") && !read.users[0].has("x@_irc_anna:b.c"));
        assert!(read.users[0].exclusive && !read.aliases[0].exclusive && read.rooms.is_empty());
        assert!(read.ephemeral && read.old_names && !read.encryption && !read.rate_limited);
        let silent = GOOD.replace("http://127.0.0.1:1234/", "null");
        assert!(super::read(&silent, server_name!("b.c")).is_ok_and(|read| read.url.is_none()));
    }

    #[test]
    fn every_problem_is_said_with_its_line_and_no_secret() {
        for (from, to, line, what) in [
            ("id: irc", "id: null", ":1:", "id"),
            ("http://", "ftp://", ":2:", "url"),
            ("30c05e90", "'a secret'", ":3:", "as_token"),
            ("hs_token", "hstoken", ":1:", "hs_token is missing"),
            ("_irc_bot", "UPPER bot", ":5:", "sender_localpart"),
            ("exclusive: true", "exclusive: perhaps", ":8:", "exclusive"),
            ("'@_irc_.*'", "'@_irc_('", ":8:", "pattern"),
            ("rate_limited: false", "rate_limited: 3", ":13:", "rate_limited"),
            ("protocols: [irc]", "protocols: irc", ":14:", "protocols"),
        ] {
            let said = problems(&GOOD.replace(from, to));
            assert!(said.len() == 1 && said[0].starts_with(line) && said[0].contains(what), "{from}: {said:?}");
            assert!(!said[0].contains("a secret'"), "{said:?}");
        }
        assert_eq!(problems("{}").len(), 6);
    }

    #[test]
    fn a_pattern_takes_no_more_time_than_its_text_is_long() {
        let text = GOOD.replace("'@_irc_.*'", "'@(a+)+(a|aa)*b'");
        let read = read(&text, server_name!("b.c")).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert!(!read.users[0].has(&format!("@{}", "a".repeat(5000))));
        assert!(!problems(&GOOD.replace("'@_irc_.*'", "'@.{1000}{1000}'")).is_empty(), "it would be too large");
    }
}

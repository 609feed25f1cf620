//! What the value of a setting may be. An error says what would be right.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use toml::de::DeValue;
use tracing_subscriber::EnvFilter;

use super::{Registration, Secret};
use crate::base::address::Permitted;

type Parsed<T> = Result<T, String>;

/// IDs have 255 bytes at most, and the server's name is a part of them.
const MAX_NAME: usize = 200;
/// Milliseconds of a time at most: ten years.
const MAX_TIME: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

fn text<'a>(value: &'a DeValue, example: &str) -> Parsed<&'a str> {
    value.as_str().ok_or_else(|| format!("a text is wanted, such as {example}"))
}

pub fn server_name(value: &DeValue) -> Parsed<OwnedServerName> {
    let name = text(value, "\"example.org\"")?;
    let parsed = ServerName::parse(name).ok().filter(|name| name.as_str().len() <= MAX_NAME);
    parsed.ok_or_else(|| format!("{name:?} is not a server name: a domain is wanted, such as \"example.org\""))
}

pub fn server_names(value: &DeValue) -> Parsed<Vec<OwnedServerName>> {
    let list = value.as_array().ok_or("an array of server names is wanted, such as [\"matrix.org\"]")?;
    list.iter().map(|item| server_name(item.get_ref())).collect()
}

/// All, none, or networks.
pub fn permitted(value: &DeValue) -> Parsed<Permitted> {
    let wanted = "true, false or an array of networks is wanted, such as [\"10.1.0.0/16\", \"fd00::1\"]";
    if let Some(all) = value.as_bool() {
        return Ok(if all { Permitted::All } else { Permitted::Public });
    }
    let mut networks = Vec::new();
    for item in value.as_array().ok_or(wanted)?.iter() {
        let text = item.get_ref().as_str().ok_or(wanted)?;
        let network = text.parse().map_err(|()| format!("{text:?} is not a network, such as \"10.1.0.0/16\""))?;
        networks.push(network);
    }
    Ok(if networks.is_empty() { Permitted::Public } else { Permitted::Also(networks) })
}

pub fn addresses(value: &DeValue) -> Parsed<Vec<SocketAddr>> {
    let wanted = "an array of addresses is wanted, such as [\"127.0.0.1:8008\", \"[::1]:8008\"]";
    let list = value.as_array().ok_or(wanted)?;
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for item in list.iter() {
        let text = item.get_ref().as_str().ok_or(wanted)?;
        let address: SocketAddr = text
            .parse()
            .map_err(|_| format!("{text:?} is not an IP address and a port, such as \"127.0.0.1:8008\""))?;
        if !seen.insert(address) && address.port() != 0 {
            return Err(format!("{text:?} is there twice: name it once"));
        }
        out.push(address);
    }
    Ok(out)
}

/// A base URL: a scheme and a host, in small letters and without a slash at its end.
pub fn url(value: &DeValue) -> Parsed<String> {
    let text = text(value, "\"https://chat.example.org\"")?;
    let base = |uri: http::Uri| {
        let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let bare = uri.path_and_query().is_none_or(|path| path == "/") && !text.contains('#');
        bare.then(|| format!("{scheme}://{}", authority.as_str().to_ascii_lowercase()))
    };
    let parsed = text.parse::<http::Uri>().ok().and_then(base);
    parsed.ok_or_else(|| format!("{text:?} is not the address of a site, such as \"https://chat.example.org\""))
}

/// The address of a page.
pub fn page(value: &DeValue) -> Parsed<String> {
    let text = text(value, "\"https://example.org/help\"")?;
    let page = text.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str().is_some_and(|scheme| scheme == "https"));
    page.map(|_| text.to_owned()).ok_or_else(|| format!("{text:?} is not a page, such as \"https://example.org/help\""))
}

pub fn email(value: &DeValue) -> Parsed<String> {
    let text = text(value, "\"admin@example.org\"")?;
    match text.split_once('@') {
        Some((name, domain)) if !name.is_empty() && !domain.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not a mail address, such as \"admin@example.org\"")),
    }
}

pub fn user(value: &DeValue) -> Parsed<OwnedUserId> {
    let text = text(value, "\"@admin:example.org\"")?;
    UserId::parse(text).map_err(|_| format!("{text:?} is not a user ID, such as \"@admin:example.org\""))
}

pub fn path(value: &DeValue) -> Parsed<PathBuf> {
    let text = text(value, "\"/var/lib/hearth\"")?;
    if text.is_empty() { Err("an empty path: name a file or folder".into()) } else { Ok(text.into()) }
}

pub fn paths(value: &DeValue) -> Parsed<Vec<PathBuf>> {
    let list = value.as_array().ok_or("an array of files is wanted, such as [\"ca.pem\"]")?;
    list.iter().map(|item| path(item.get_ref())).collect()
}

pub fn registration(value: &DeValue) -> Parsed<Registration> {
    match value.as_str() {
        Some("open") => Ok(Registration::Open),
        Some("token") => Ok(Registration::Token),
        Some("closed") => Ok(Registration::Closed),
        _ => Err("\"open\", \"token\" or \"closed\" is wanted".into()),
    }
}

pub fn boolean(value: &DeValue) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| "true or false is wanted".into())
}

fn integer(value: &DeValue) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A whole number, no less than `least`.
pub fn count(least: usize) -> impl FnOnce(&DeValue) -> Parsed<usize> {
    move |value| {
        let number = integer(value).and_then(|number| usize::try_from(number).ok());
        number.filter(|number| *number >= least).ok_or_else(|| format!("a whole number from {least} up is wanted"))
    }
}

/// A size in bytes, no less than `least`: a number, or a text with a unit.
pub fn size(least: u64) -> impl FnOnce(&DeValue) -> Parsed<u64> {
    move |value| {
        let bytes = integer(value).or_else(|| with_unit(value.as_str()?));
        let bytes = bytes.ok_or("a size is wanted, such as \"128 MiB\" or \"1 GB\"")?;
        if bytes < least { Err(format!("{} is the least that works", words(least))) } else { Ok(bytes) }
    }
}

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

fn with_unit(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = text[digits.len()..].trim();
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A size as people write it, in the largest unit that it is whole in.
fn words(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| "0 B".to_owned(), |(name, factor)| format!("{} {name}", bytes / factor))
}

/// A time, in milliseconds.
pub fn duration(value: &DeValue) -> Parsed<u64> {
    let wanted = "a time is wanted, such as \"30 s\", \"10 min\", \"24 h\" or \"7 d\"";
    let text = value.as_str().ok_or(wanted)?;
    let split = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(wanted)?;
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit.trim() {
        "ms" => 1,
        "s" => 1000,
        "min" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return Err(wanted.into()),
    };
    let time = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    time.filter(|time| (1..=MAX_TIME).contains(time)).ok_or_else(|| wanted.into())
}

/// The addresses of a TURN server.
pub fn turn_uris(value: &DeValue) -> Parsed<Vec<String>> {
    let wanted = "an array of addresses is wanted, such as [\"turn:turn.example.org?transport=udp\"]";
    let list = value.as_array().filter(|list| !list.is_empty()).ok_or(wanted)?;
    let uri = |text: &str| {
        text.split_once(':')
            .is_some_and(|(scheme, rest)| matches!(scheme, "turn" | "turns" | "stun" | "stuns") && !rest.is_empty())
    };
    let one = |item: &toml::Spanned<DeValue>| item.get_ref().as_str().filter(|text| uri(text)).map(str::to_owned);
    list.iter().map(|item| one(item).ok_or_else(|| wanted.to_owned())).collect()
}

/// The name of a bucket, by the rules that all stores have in common.
pub fn bucket(value: &DeValue) -> Parsed<String> {
    let name = text(value, "\"hearth-media\"")?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    match (3..=63).contains(&name.len()) && name.bytes().all(fits) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name:?} is not a bucket: 3 to 63 small letters, digits, dots and hyphens are wanted")),
    }
}

/// A text without spaces or line ends in it.
pub fn word(value: &DeValue) -> Parsed<String> {
    let word = text(value, "\"us-east-1\"")?;
    match !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(word.to_owned()),
        false => Err(format!("{word:?} is not one word of plain letters")),
    }
}

/// What names in a bucket begin with: words with slashes between them.
pub fn prefix(value: &DeValue) -> Parsed<String> {
    let prefix = text(value, "\"hearth/media\"")?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(fits);
    match prefix.is_empty() || prefix.split('/').all(part) {
        true => Ok(prefix.to_owned()),
        false => Err(format!("{prefix:?} is not a prefix, such as \"hearth/media\"")),
    }
}

/// What two servers share and nobody else knows.
pub fn secret(value: &DeValue) -> Parsed<Secret> {
    let secret = text(value, "the one that the other server has")?;
    match secret.is_empty() {
        true => Err("a secret is not empty".into()),
        false => Ok(Secret(secret.to_owned())),
    }
}

pub fn log_filter(value: &DeValue) -> Parsed<String> {
    let text = text(value, "\"info\" or \"warn,hearth::store=debug\"")?;
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is not a log filter, such as \"info\" or \"warn,hearth::store=debug\"")),
    }
}

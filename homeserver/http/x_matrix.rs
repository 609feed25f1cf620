//! The `Authorization` header of another server's request, read as leniently as the spec wants it. Knows
//! nothing of whether what it says is true.
//! spec: server-server-api#request-authentication

use std::iter::Peekable;

use http::{HeaderMap, header};
use ruma::{OwnedServerName, ServerName};

/// Letters of the header at most.
const MAX_HEADER: usize = 4096;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XMatrix {
    /// Its name.
    pub origin: OwnedServerName,
    /// Whom it means to ask. Old servers don't say.
    pub destination: Option<OwnedServerName>,
    /// The ID of the key that it has signed with.
    pub key: String,
    /// The signature, base64.
    pub sig: String,
}

impl XMatrix {
    /// The first such header, or what is wrong with it.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
        let rest = values.find_map(|value| {
            let (scheme, rest) = value.trim().split_once([' ', '\t'])?;
            scheme.eq_ignore_ascii_case("X-Matrix").then_some(rest)
        });
        Self::parse(rest.ok_or("this needs an Authorization header of the scheme X-Matrix")?)
    }

    /// Reads the parameters: names in any case and order, values bare or quoted, unknown ones for nothing.
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_HEADER {
            return Err(format!("the Authorization header is longer than {MAX_HEADER} bytes"));
        }
        let (mut origin, mut destination, mut key, mut sig) = (None, None, None, None);
        for (name, value) in parameters(text)? {
            let place = match &*name {
                "origin" => &mut origin,
                "destination" => &mut destination,
                "key" => &mut key,
                "sig" => &mut sig,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(format!("the Authorization header has {name} twice"));
            }
        }
        let server = |name: &str| ServerName::parse(name).map_err(|_| format!("{name:?} is not a server name"));
        let wanted = |name: &str| format!("the Authorization header has no {name}");
        Ok(Self {
            origin: server(&origin.ok_or_else(|| wanted("origin"))?)?,
            destination: destination.map(|name| server(&name)).transpose()?,
            key: key.filter(|key| key.starts_with("ed25519:")).ok_or_else(|| wanted("Ed25519 key"))?,
            sig: sig.ok_or_else(|| wanted("sig"))?,
        })
    }
}

/// The parameters of a list as RFC 9110 has it, with names in small letters. Bare values may have any letters
/// that don't end them, as servers send key IDs and base64 bare.
fn parameters(text: &str) -> Result<Vec<(String, String)>, String> {
    let wrong = || "the Authorization header is not a list of parameters".to_owned();
    let mut out = Vec::new();
    let mut letters = text.chars().peekable();
    loop {
        skip(&mut letters, |letter| letter.is_ascii_whitespace() || letter == ',');
        if letters.peek().is_none() {
            return Ok(out);
        }
        let name = take(&mut letters, |letter| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter));
        skip(&mut letters, |letter| letter.is_ascii_whitespace());
        if name.is_empty() || letters.next() != Some('=') {
            return Err(wrong());
        }
        skip(&mut letters, |letter| letter.is_ascii_whitespace());
        let value = match letters.next_if_eq(&'"') {
            Some(_) => quoted(&mut letters).ok_or_else(wrong)?,
            None => take(&mut letters, |letter| letter != ',' && letter != '"' && !letter.is_ascii_whitespace()),
        };
        skip(&mut letters, |letter| letter.is_ascii_whitespace());
        if letters.peek().is_some_and(|letter| *letter != ',') {
            return Err(wrong());
        }
        out.push((name.to_ascii_lowercase(), value));
    }
}

type Letters<'a> = Peekable<std::str::Chars<'a>>;

fn skip(letters: &mut Letters, of: impl Fn(char) -> bool) {
    while letters.next_if(|letter| of(*letter)).is_some() {}
}

fn take(letters: &mut Letters, of: impl Fn(char) -> bool) -> String {
    let mut out = String::new();
    while let Some(letter) = letters.next_if(|letter| of(*letter)) {
        out.push(letter);
    }
    out
}

/// What stands up to the closing quotation mark. None if there is none.
fn quoted(letters: &mut Letters) -> Option<String> {
    let mut out = String::new();
    loop {
        match letters.next()? {
            '"' => return Some(out),
            '\\' => out.push(letters.next()?),
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(value: &str) -> Result<XMatrix, String> {
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, "Bearer abc".parse().expect("a value"));
        headers.append(header::AUTHORIZATION, value.parse().expect("a value"));
        XMatrix::of(&headers)
    }

    #[test]
    fn every_way_to_write_it_is_read() {
        let wanted = of(r#"X-Matrix origin="a.b:1",destination="c.d",key="ed25519:k",sig="S+/=""#).expect("read");
        assert_eq!((wanted.origin.as_str(), &*wanted.key, &*wanted.sig), ("a.b:1", "ed25519:k", "S+/="));
        for same in [
            "X-Matrix origin=a.b:1,destination=c.d,key=ed25519:k,sig=S+/=",
            "x-matrix  SIG=\"S+/=\" , Key=ed25519:k,,destination=\"c.d\" ,\tOrigin = \"a.b:1\"",
            "X-Matrix other=\"x,\\\" y\",origin=\"a\\.b:1\",new=1,destination=c.d,key=ed25519:k,sig=\"S+/=\",",
        ] {
            assert_eq!(of(same).as_ref(), Ok(&wanted), "{same}");
        }
        let old = of("X-Matrix origin=a.b:1,key=ed25519:k,sig=S").expect("old servers don't say whom they ask");
        assert_eq!(old.destination, None);
    }

    #[test]
    fn what_is_missing_twice_or_nonsense_is_refused() {
        for wrong in [
            "Bearer x",
            "X-Matrix",
            "X-Matrix ",
            "X-Matrix origin=a.b,key=ed25519:k",
            "X-Matrix origin=a.b,sig=S",
            "X-Matrix key=ed25519:k,sig=S",
            "X-Matrix origin=a.b,origin=c.d,key=ed25519:k,sig=S",
            "X-Matrix origin=a.b,key=rsa:k,sig=S",
            "X-Matrix origin=\"a b\",key=ed25519:k,sig=S",
            "X-Matrix origin=a.b,destination=\"\",key=ed25519:k,sig=S",
            "X-Matrix origin=\"a.b,key=ed25519:k,sig=S",
            "X-Matrix origin=a.b;key=ed25519:k;sig=S",
            "X-Matrix origin=\"a.b\"key=ed25519:k,sig=S",
            "X-Matrix =a.b,key=ed25519:k,sig=S",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(of(&format!("X-Matrix origin=a.b,key=ed25519:k,sig={}", "S".repeat(MAX_HEADER))).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_stumble(text in "[ -~\t]{0,80}") {
            _ = XMatrix::parse(&text);
        }

        #[test]
        fn what_is_quoted_comes_back(sig in "[ -~]{0,40}") {
            let escaped = sig.replace('\\', "\\\\").replace('"', "\\\"");
            let read = XMatrix::parse(&format!("origin=a.b,sig=\"{escaped}\",key=ed25519:k")).expect("read");
            prop_assert_eq!(read.sig, sig);
        }
    }
}

//! What the head of an HTML page says about it, by Open Graph or by its plain title and description. Reads what is
//! there and never runs or renders anything; whatever is broken is left out.

use serde_json::{Map, Value};

/// Letters of a title and of a description at most.
const MAX_TITLE: usize = 300;
const MAX_TEXT: usize = 1000;
/// Tags that are looked at.
const MAX_TAGS: usize = 2000;

/// A page as it shows itself.
#[derive(Debug, Default)]
pub struct Page {
    /// Open Graph properties, all but pictures.
    pub said: Map<String, Value>,
    /// Where its picture is, as the page says it.
    pub picture: Option<String>,
}

/// Reads a page.
pub fn read(html: &str) -> Page {
    let (mut page, mut title, mut description) = (Page::default(), None, None);
    let mut rest = html;
    for _ in 0..MAX_TAGS {
        let Some(at) = rest.find('<') else { break };
        rest = &rest[at + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let name: String = rest.chars().take_while(|letter| letter.is_ascii_alphanumeric()).collect();
        match &*name.to_ascii_lowercase() {
            "body" => break,
            "script" | "style" | "noscript" => rest = after_end(rest, &name),
            "title" if title.is_none() => {
                let text = rest.find('>').map_or("", |start| &rest[start + 1..]);
                title = Some(text.split('<').next().unwrap_or_default());
            }
            "meta" => {
                let attributes = attributes(&rest[name.len()..]);
                let of = |wanted: &str| attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
                let Some(content) = of("content") else { continue };
                match of("property").or(of("name")).map(|name| name.to_ascii_lowercase()).as_deref() {
                    Some("og:image" | "og:image:url" | "og:image:secure_url") if page.picture.is_none() => {
                        page.picture = Some(plain(content, usize::MAX));
                    }
                    Some("description") => description = Some(plain(content, MAX_TEXT)),
                    Some(key @ ("og:title" | "og:description" | "og:site_name" | "og:type" | "og:url")) => {
                        page.said.entry(key).or_insert_with(|| plain(content, MAX_TEXT).into());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let title = title.map(|title| plain(title, MAX_TITLE)).filter(|title| !title.is_empty());
    for (key, value) in [("og:title", title), ("og:description", description)] {
        if let Some(value) = value {
            page.said.entry(key).or_insert_with(|| value.into());
        }
    }
    page
}

/// What comes after the end of an element whose content is no markup.
fn after_end<'a>(rest: &'a str, name: &str) -> &'a str {
    let end = format!("</{}", name.to_ascii_lowercase());
    // Lowering letters outside of ASCII would move what comes after them.
    rest.to_ascii_lowercase().find(&end).map_or("", |at| &rest[at + 1..])
}

/// The attributes of a tag, with names in small letters.
fn attributes(tag: &str) -> Vec<(String, String)> {
    let (mut out, mut rest) = (Vec::new(), tag);
    loop {
        rest = rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '/');
        let end = rest.find(|letter: char| letter.is_whitespace() || "=>/".contains(letter)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() || out.len() > 20 {
            return out;
        }
        rest = after.trim_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|letter| matches!(letter, '"' | '\''));
            let (found, further) = match quote {
                Some(quote) => after[1..].split_once(quote).unwrap_or(("", "")),
                None => {
                    let end = after.find(|letter: char| letter.is_whitespace() || letter == '>');
                    after.split_at(end.unwrap_or(after.len()))
                }
            };
            (value, rest) = (found, further);
        }
        out.push((name.to_ascii_lowercase(), value.to_owned()));
    }
}

/// Text with its character references as the characters, in one line, and not too long.
fn plain(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.char_indices().take(12).find(|(_, letter)| *letter == ';').map(|(end, _)| end);
        match end.and_then(|end| Some((character(&rest[1..end])?, end))) {
            Some((letter, end)) => {
                out.push(letter);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    let words: Vec<&str> = out.split_whitespace().collect();
    words.join(" ").chars().filter(|letter| !letter.is_control()).take(max).collect()
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        name => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(number)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn open_graph_comes_before_title_and_description() {
        let page = read(
            "<!doctype html><!-- <meta property=og:title content=no> --><html><head><title>Plain &amp; simple</title>\
             <script>var x = '<meta property=\"og:title\" content=\"no\">';</script>\
             <META NAME=description content='In one line,\n and another'>\
             <meta property=\"og:site_name\" content=\"Caf&#233;\"/>\
             <meta content='/a.png' property='og:image'></head><body><meta property=og:type content=no>",
        );
        let wanted =
            json!({"og:title": "Plain & simple", "og:description": "In one line, and another", "og:site_name": "Café"});
        assert_eq!((Value::Object(page.said), page.picture.as_deref()), (wanted, Some("/a.png")));
        let page = read("<title>x</title><meta property=og:title content=\"y > z\">");
        assert_eq!(page.said["og:title"], "y > z");
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(html in "(<|>|/|meta|title|=|\"|'|property|og:title|content| |&|#|x|;|é|script|!--|-->){0,60}") {
            read(&html);
        }
    }
}

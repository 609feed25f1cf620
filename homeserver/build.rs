//! Puts `client-web/` into the binary: lists its files, and packs those that gain from it, in the two ways
//! that browsers unpack. Done here and not when the server starts, so that starting costs nothing and the
//! packing can take its time. Comments and indentation stay at home: a third of the scripts is written for people.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use brotli::enc::{BrotliEncoderParams, backward_references::BrotliEncoderMode};
use flate2::{Compression, write::GzEncoder};

/// Formats that are packed already.
const PACKED: [&str; 8] = ["png", "jpg", "jpeg", "webp", "gif", "woff2", "mp3", "ogg"];

fn main() -> io::Result<()> {
    let variable = |name| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let (root, out) = (variable("CARGO_MANIFEST_DIR")?.join("client-web"), variable("OUT_DIR")?);
    println!("cargo::rerun-if-changed=client-web");
    println!("cargo::rerun-if-changed=homeserver/build.rs");
    let mut paths = Vec::new();
    if root.is_dir() {
        collect(&root, &mut paths)?;
    }
    paths.sort();
    let mut list = fs::File::create(out.join("web.rs"))?;
    writeln!(list, "&[")?;
    for (number, path) in paths.iter().enumerate() {
        let name = path.strip_prefix(&root).map_err(io::Error::other)?.to_string_lossy().replace('\\', "/");
        let sent = sent(path, fs::read(path)?);
        let [plain, gzip, br] = ["plain", "gz", "br"].map(|kind| out.join(format!("{number}.{kind}")));
        fs::write(&plain, &sent)?;
        let packed = |file: &Path, bytes: Vec<u8>| -> io::Result<String> {
            // Where little is won, the browser is spared the work.
            if is_packed(path) || bytes.len() * 10 >= sent.len() * 9 {
                return Ok("None".to_owned());
            }
            fs::write(file, bytes)?;
            Ok(format!("Some(include_bytes!({file:?}))"))
        };
        let (gzip, br) = (packed(&gzip, to_gzip(&sent)?)?, packed(&br, to_brotli(&sent)?)?);
        writeln!(list, "    Embedded {{ name: {name:?}, plain: include_bytes!({plain:?}), gzip: {gzip}, br: {br} }},")?;
    }
    writeln!(list, "]")
}

/// What the browser gets: everything but hidden files, and what is there for people and for tools.
fn collect(folder: &Path, out: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name.ends_with(".md") || ["package.json", "screenshots"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, out)?;
        } else {
            out.push(path);
        }
    }
    Ok(())
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn is_packed(path: &Path) -> bool {
    PACKED.contains(&&*extension(path))
}

/// What is sent of a file: of scripts and styles, what is no comment and no indentation. The lines' numbers stay,
/// so that an error names the line that one finds in the folder.
fn sent(path: &Path, bytes: Vec<u8>) -> Vec<u8> {
    match (&*extension(path), String::from_utf8(bytes)) {
        ("js" | "css", Ok(text)) => without_comments(&text).into_bytes(),
        (_, Ok(text)) => text.into_bytes(),
        (_, Err(not_text)) => not_text.into_bytes(),
    }
}

/// Only lines that are nothing but comment, and types within lines, which takes no grammar to see; a test holds that no
/// text of a script has lines that look like a comment, or would miss what they begin with.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.lines() {
        let bare = line.trim();
        let end = bare.find("*/").map(|at| at + 2);
        if inside {
            inside = end.is_none();
            out.push_str(end.map_or("", |at| &bare[at..]));
        } else if bare.starts_with("/*") && end.is_none_or(|at| at == bare.len()) {
            inside = end.is_none();
        } else if !bare.starts_with("//") {
            push_code(&mut out, line.trim_start());
        }
        out.push('\n');
    }
    out
}

/// A line without what it says of types, which stands between code.
fn push_code(out: &mut String, mut line: &str) {
    while let Some((before, rest)) = line.split_once("/** @") {
        let Some((_, after)) = rest.split_once("*/") else { break };
        out.push_str(before);
        line = after.strip_prefix(' ').unwrap_or(after);
    }
    out.push_str(line);
}

fn to_gzip(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain)?;
    encoder.finish()
}

fn to_brotli(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mode = BrotliEncoderMode::BROTLI_MODE_TEXT;
    let params = BrotliEncoderParams { quality: 11, mode, size_hint: plain.len(), ..Default::default() };
    let mut packed = Vec::new();
    brotli::BrotliCompress(&mut &plain[..], &mut packed, &params)?;
    Ok(packed)
}

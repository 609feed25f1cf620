//! Puts `client-web/` into the binary: lists its files, and packs those that gain from it. Done here
//! and not when the server starts, so that starting costs nothing and the packing can take its time.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

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
        let packed = match pack(path)? {
            Some(bytes) => {
                let file = out.join(format!("{number}.gz"));
                fs::write(&file, bytes)?;
                format!("Some(include_bytes!({file:?}))")
            }
            None => "None".to_owned(),
        };
        writeln!(list, "    Embedded {{ name: {name:?}, plain: include_bytes!({path:?}), packed: {packed} }},")?;
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

/// The file packed with gzip, if that makes it notably smaller.
fn pack(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if PACKED.contains(&&*extension) {
        return Ok(None);
    }
    let plain = fs::read(path)?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&plain)?;
    let packed = encoder.finish()?;
    Ok((packed.len() * 10 < plain.len() * 9).then_some(packed))
}

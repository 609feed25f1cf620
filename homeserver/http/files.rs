//! The web client: the files of `client-web/`, from the binary or from a folder, and the security
//! headers that go with them. Knows nothing of Matrix.
//!
//! `/` is `index.html`, and so is `/admin`. What it refers to is rewritten to `/@VERSION/…`, a copy of the tree that
//! browsers may keep for good: the version changes with any file, and module imports are relative.
//! Under its own path a file is asked for again each time and answered by 304 if it is the same.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use ring::digest;

use super::reply::{Reply, full};

/// One file, as `build.rs` lists it.
struct Embedded {
    name: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
    br: Option<&'static [u8]>,
}

static EMBEDDED: &[Embedded] = include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// Scripts and styles from here alone, no frames, no plugins; media as blobs, since fetching them
/// takes a token; connections to any homeserver that somebody signs in to.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    media-src blob:; connect-src 'self' https: http: ws: wss:; font-src 'self'; manifest-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
    trusted-types hearth-html";
const PERMISSIONS: &str = "accelerometer=(), browsing-topics=(), camera=(self), display-capture=(self), \
    geolocation=(), gyroscope=(), magnetometer=(), microphone=(self), payment=(), usb=()";

const FOREVER: &str = "max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

const INDEX: &str = "index.html";

/// A file that is ready to be sent.
struct File {
    plain: Bytes,
    /// The same packed, by the codings' names, the smallest first.
    packed: Vec<(&'static str, Bytes)>,
    /// What the entity tags begin with.
    hash: String,
}

/// Where the web client comes from.
pub enum Files {
    /// The binary.
    Embedded(Tree),
    /// A folder, read anew for every request.
    Folder(PathBuf),
}

/// The files of the binary.
pub struct Tree {
    files: HashMap<&'static str, File>,
    version: String,
}

impl Files {
    /// The files of the binary, or those in a folder.
    pub fn new(folder: Option<&Path>) -> Result<Arc<Self>, String> {
        let Some(folder) = folder else { return Ok(Arc::new(Self::Embedded(Tree::new(EMBEDDED)))) };
        match folder.canonicalize() {
            Ok(folder) if folder.is_dir() => Ok(Arc::new(Self::Folder(folder))),
            Ok(_) => Err(format!("the web root {} is not a folder", folder.display())),
            Err(error) => Err(format!("can't read the web root {}: {error}", folder.display())),
        }
    }

    /// Answers a request for a path.
    pub async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Reply {
        // The administration is a place within the client, with an address that can be said.
        let path = match path.strip_prefix('/').unwrap_or(path) {
            "admin" => "",
            other => other,
        };
        let found = match self {
            Self::Embedded(tree) => tree.answer(path, headers),
            Self::Folder(root) => read(root, if path.is_empty() { INDEX } else { path }).await,
        };
        let mut reply = match found {
            Some(_) if !matches!(*method, Method::GET | Method::HEAD) => {
                let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD work here.\n");
                reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                reply
            }
            Some(reply) => reply,
            None => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
        };
        add_security(&mut reply);
        reply
    }
}

impl Tree {
    fn new(embedded: &[Embedded]) -> Self {
        let mut whole = digest::Context::new(&digest::SHA256);
        let mut files = HashMap::new();
        for file in embedded {
            let hash = digest::digest(&digest::SHA256, file.plain);
            whole.update(file.name.as_bytes());
            whole.update(hash.as_ref());
            let hash = URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]);
            let packed = [("br", file.br), ("gzip", file.gzip)].into_iter();
            let packed = packed.filter_map(|(coding, bytes)| Some((coding, Bytes::from_static(bytes?)))).collect();
            files.insert(file.name, File { plain: Bytes::from_static(file.plain), packed, hash });
        }
        let version = URL_SAFE_NO_PAD.encode(&whole.finish().as_ref()[..6]);
        if let Some(index) = files.get(INDEX) {
            let rewritten = with_version(&String::from_utf8_lossy(&index.plain), &version, embedded);
            let hash = format!("{}-{version}", index.hash);
            files.insert(INDEX, File { plain: rewritten.into(), packed: Vec::new(), hash });
        }
        Self { files, version }
    }

    fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Reply> {
        let (path, cache) = match path.strip_prefix('@').and_then(|rest| rest.split_once('/')) {
            Some((version, path)) if version == self.version => (path, FOREVER),
            // A page from before the server was upgraded: what is here now serves it best.
            Some((_, path)) => (path, ASK_AGAIN),
            None if path.is_empty() => (INDEX, ASK_AGAIN),
            None => (path, ASK_AGAIN),
        };
        let file = self.files.get(path)?;
        let packed = file.packed.iter().find(|(coding, _)| takes(headers, coding));
        let tag = format!("\"{}{}\"", file.hash, packed.map_or(String::new(), |(coding, _)| format!("-{coding}")));
        let same = is_same(headers, &tag);
        let body = if same { Bytes::new() } else { packed.map_or(&file.plain, |(_, bytes)| bytes).clone() };
        let mut reply = Response::new(full(body));
        if same {
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = reply.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        // What is kept for good is not asked for again.
        if cache != FOREVER || same {
            headers.insert(header::ETAG, HeaderValue::try_from(tag).ok()?);
        }
        if !file.packed.is_empty() {
            headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        if let Some((coding, _)) = packed.filter(|_| !same) {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        Some(reply)
    }
}

/// The page with its references to other files of the tree leading into the versioned copy.
fn with_version(page: &str, version: &str, embedded: &[Embedded]) -> String {
    let mut page = page.to_owned();
    // The manifest stays where it is: what it says of the application counts from its own address.
    for Embedded { name, .. } in embedded.iter().filter(|file| !file.name.ends_with(".webmanifest")) {
        for reference in [format!("\"/{name}\""), format!("\"./{name}\""), format!("\"{name}\"")] {
            page = page.replace(&reference, &format!("\"/@{version}/{name}\""));
        }
    }
    page
}

/// Reads a file of a folder, if the path leads to one that is truly inside.
async fn read(root: &Path, path: &str) -> Option<Reply> {
    let usual = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '%', '\0']);
    if !path.split('/').all(usual) {
        return None;
    }
    let file = tokio::fs::canonicalize(root.join(path)).await.ok().filter(|file| file.starts_with(root))?;
    let mut reply = Response::new(full(tokio::fs::read(&file).await.ok()?));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(reply)
}

fn text(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(full(text));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

fn add_security(reply: &mut Reply) {
    const OF_PAGES: [(HeaderName, &str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("permissions-policy"), PERMISSIONS),
    ];
    let headers = reply.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Scripts and styles live by the policy of the page that asks for them: there are many, and what they said of
    // themselves would be heard by nobody.
    let is_part = [content_type(".js"), content_type(".css")].iter().any(|kind| headers[header::CONTENT_TYPE] == kind);
    for (name, value) in OF_PAGES.into_iter().filter(|_| !is_part) {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Whether `Accept-Encoding` has a coding and doesn't refuse it.
fn takes(headers: &HeaderMap, wanted: &str) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let refused = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0);
        name.trim().eq_ignore_ascii_case(wanted) && !refused
    })
}

/// Whether `If-None-Match` names this tag, compared weakly. spec: RFC 9110, section 13.1.2
fn is_same(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let item = item.trim();
        item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    static TREE: &[Embedded] = &[
        Embedded {
            name: INDEX,
            plain: b"<script type=module src=\"main.js\"></script><link rel=manifest href=\"a.webmanifest\">",
            gzip: None,
            br: None,
        },
        Embedded { name: "a.webmanifest", plain: b"{}", gzip: None, br: None },
        Embedded { name: "main.js", plain: b"import './kit/signal.js'", gzip: Some(b"packed"), br: Some(b"small") },
    ];

    async fn ask(files: &Files, path: &str, headers: &[(HeaderName, &str)]) -> (u16, HeaderMap, String) {
        let to_value = |text: &str| HeaderValue::from_str(text).expect("a value");
        let headers = headers.iter().map(|(name, value)| (name.clone(), to_value(value))).collect();
        let (head, body) = files.answer(&Method::GET, path, &headers).await.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn the_page_leads_to_files_that_can_be_kept() {
        let files = Files::Embedded(Tree::new(TREE));
        let (status, headers, page) = ask(&files, "/", &[]).await;
        assert_eq!((status, &headers[header::CACHE_CONTROL]), (200, &HeaderValue::from_static("no-cache")));
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], POLICY);
        assert!(page.contains("href=\"a.webmanifest\""), "{page}");
        let script = page.split('"').nth(1).expect("a reference");
        assert!(script.starts_with("/@") && script.ends_with("/main.js"), "{script}");
        let (status, headers, body) = ask(&files, script, &[]).await;
        assert_eq!((status, &*body), (200, "import './kit/signal.js'"));
        assert_eq!(headers[header::CACHE_CONTROL], FOREVER);
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(!headers.contains_key(header::CONTENT_SECURITY_POLICY), "the page's policy counts");
        let (status, headers, _) = ask(&files, "/@before/main.js", &[]).await;
        assert_eq!((status, &headers[header::CACHE_CONTROL]), (200, &HeaderValue::from_static("no-cache")));
    }

    #[tokio::test]
    async fn what_a_browser_has_is_not_sent_again() {
        let files = Files::Embedded(Tree::new(TREE));
        let br = (header::ACCEPT_ENCODING, "gzip, br");
        let (_, headers, body) = ask(&files, "/main.js", &[br]).await;
        assert_eq!((&headers[header::CONTENT_ENCODING], &*body), (&HeaderValue::from_static("br"), "small"));
        let gzip = (header::ACCEPT_ENCODING, "br;q=0, gzip;q=0.8");
        let (_, headers, body) = ask(&files, "/main.js", std::slice::from_ref(&gzip)).await;
        assert_eq!((&headers[header::CONTENT_ENCODING], &*body), (&HeaderValue::from_static("gzip"), "packed"));
        let tag = headers[header::ETAG].to_str().expect("text");
        let weak = format!("\"other\", W/{tag}");
        let (status, headers, body) = ask(&files, "/main.js", &[gzip, (header::IF_NONE_MATCH, &weak)]).await;
        assert_eq!((status, &*body), (304, ""));
        assert_eq!(headers[header::ETAG], tag);
        let refused = (header::ACCEPT_ENCODING, "gzip;q=0");
        let (status, headers, _) = ask(&files, "/main.js", &[refused, (header::IF_NONE_MATCH, &weak)]).await;
        assert_eq!((status, headers.get(header::CONTENT_ENCODING)), (200, None));
    }

    #[tokio::test]
    async fn no_path_leads_out_of_a_folder() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("web");
        std::fs::create_dir_all(root.join("css")).expect("made");
        std::fs::write(dir.path().join("secret"), "secret").expect("written");
        std::fs::write(root.join(INDEX), "page").expect("written");
        std::fs::write(root.join(".hidden"), "secret").expect("written");
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).expect("linked");
        let files = Files::new(Some(&root)).expect("a folder");
        assert_eq!(ask(&files, "/", &[]).await.2, "page");
        let paths = [
            "/../secret",
            "/css/../../secret",
            "//secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/link",
            "/.hidden",
            "/css",
            "/css/",
            "/..\\secret",
            "/./index.html",
        ];
        for path in paths {
            let (status, _, body) = ask(&files, path, &[]).await;
            assert_eq!((status, &*body), (404, "There is nothing here.\n"), "{path}");
        }
        assert!(Files::new(Some(&dir.path().join("secret"))).is_err());
        assert!(Files::new(Some(&dir.path().join("nowhere"))).is_err());
    }
}

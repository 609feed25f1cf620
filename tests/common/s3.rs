//! A store that speaks as much S3 as a homeserver needs, on a real socket: objects whole and in parts, ranges,
//! signatures that have to be there. It can be down, or fail.
//!
//! ```ignore
//! let mut s3 = S3::start().await;
//! let server = Server::start_with(&format!("registration = \"open\"\n{}", s3.settings())).await;
//! s3.stop().await;
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use ring::digest::{SHA256, digest};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinHandle,
};

use super::{federation::listen, free_address};

/// Its one bucket, and who may use it.
const BUCKET: &str = "hearth-test";
const KEY: &str = "the-key-of-the-tests";
pub const SECRET: &str = "the-secret-of-the-tests";

/// A store. Dropping it ends it.
pub struct S3 {
    address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Inside {
    objects: BTreeMap<String, Vec<u8>>,
    /// Objects that come in parts: by the upload's ID.
    parts: HashMap<String, BTreeMap<u32, Vec<u8>>>,
    asked: Vec<Request>,
    fails: bool,
}

/// What the store was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub uri: String,
    pub headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }
}

impl S3 {
    /// One with an empty bucket.
    pub async fn start() -> Self {
        let mut store = Self { address: free_address(), inside: Arc::default(), listening: None };
        store.resume().await;
        store
    }

    /// The section of a configuration that uses it.
    pub fn settings(&self) -> String {
        format!(
            "[s3]\nendpoint = \"http://{}\"\nbucket = \"{BUCKET}\"\nprefix = \"some/where\"\naccess_key = \"{KEY}\"\n\
             secret_key = \"{SECRET}\"\n",
            self.address
        )
    }

    /// Hangs up, and is not there any more.
    pub async fn stop(&mut self) {
        let listening = self.listening.take().expect("it is there");
        listening.abort();
        _ = listening.await;
    }

    /// Is there again, with all that it had.
    pub async fn resume(&mut self) {
        let inside = self.inside.clone();
        self.listening = Some(listen(self.address, move |stream| serve(stream, inside.clone())).await);
    }

    /// From now on it answers that it is broken, or not.
    pub fn fails(&self, fails: bool) {
        self.inside().fails = fails;
    }

    /// The names of all that is in it, with their content.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.inside().objects.clone()
    }

    /// Loses everything.
    pub fn empty(&self) {
        self.inside().objects.clear();
    }

    /// What it was asked with a method since this was asked last.
    pub fn asked(&self, method: &str) -> Vec<Request> {
        let asked = std::mem::take(&mut self.inside().asked);
        asked.into_iter().filter(|request| request.method == method).collect()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("a lock")
    }
}

/// A status, headers and a body.
type Answer = (u16, String, Vec<u8>);

async fn serve(mut stream: BufReader<TcpStream>, inside: Arc<Mutex<Inside>>) -> io::Result<()> {
    while let Some(request) = read(&mut stream).await? {
        let is_head = request.method == "HEAD";
        let (status, headers, body) = {
            let mut inside = inside.lock().expect("a lock");
            inside.asked.push(request.clone());
            inside.answer(request)
        };
        let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        if !is_head {
            stream.write_all(&body).await?;
        }
        stream.flush().await?;
    }
    Ok(())
}

/// The next request on a connection, if there is one.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Request { method, uri, headers, body }))
}

fn refused(status: u16, code: &str) -> Answer {
    let body =
        format!("<Error><Code>{code}</Code><Message>so it is</Message><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>");
    (status, "Content-Type: application/xml\r\n".into(), body.into_bytes())
}

/// Refuses what is not signed by who may use it, and what was changed on its way.
fn check(request: &Request) -> Result<(), Answer> {
    let header = |name: &str| request.headers.get(name).map(String::as_str).unwrap_or_default();
    let signed = format!("AWS4-HMAC-SHA256 Credential={KEY}/");
    if !header("authorization").starts_with(&signed) || !header("authorization").contains("Signature=") {
        return Err(refused(403, "InvalidAccessKeyId"));
    }
    let hash: String = digest(&SHA256, &request.body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    match request.body.is_empty() || header("x-amz-content-sha256") == hash {
        true => Ok(()),
        false => Err(refused(400, "XAmzContentSHA256Mismatch")),
    }
}

impl Inside {
    fn answer(&mut self, request: Request) -> Answer {
        if let Err(refused) = check(&request) {
            return refused;
        }
        if self.fails {
            return refused(503, "SlowDown");
        }
        let (path, query) = request.uri.split_once('?').unwrap_or((&request.uri, ""));
        let Some(name) = path.strip_prefix(&format!("/{BUCKET}/")).map(str::to_owned) else {
            return refused(404, "NoSuchBucket");
        };
        let argument = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('=').or(Some((pair, ""))));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let range = request.headers.get("range").cloned().unwrap_or_default();
        match (&*request.method, argument("uploadId")) {
            ("POST", None) if argument("uploads").is_some() => {
                let id = format!("upload-{}", self.parts.len());
                self.parts.insert(id.clone(), BTreeMap::new());
                let begun = format!(
                    "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{name}</Key>\
                     <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                );
                (200, String::new(), begun.into_bytes())
            }
            ("PUT", Some(id)) => {
                let number = argument("partNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
                let Some(parts) = self.parts.get_mut(&id) else { return refused(404, "NoSuchUpload") };
                parts.insert(number, request.body);
                (200, format!("ETag: \"part-{number}\"\r\n"), Vec::new())
            }
            ("POST", Some(id)) => {
                let Some(parts) = self.parts.remove(&id) else { return refused(404, "NoSuchUpload") };
                self.objects.insert(name.clone(), parts.into_values().flatten().collect());
                let done = format!(
                    "<CompleteMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{name}</Key><ETag>\"x\"</ETag>\
                     </CompleteMultipartUploadResult>"
                );
                (200, String::new(), done.into_bytes())
            }
            ("DELETE", Some(id)) => {
                self.parts.remove(&id);
                (204, String::new(), Vec::new())
            }
            ("PUT", None) => {
                self.objects.insert(name, request.body);
                (200, "ETag: \"x\"\r\n".into(), Vec::new())
            }
            ("DELETE", None) => {
                self.objects.remove(&name);
                (204, String::new(), Vec::new())
            }
            ("GET" | "HEAD", None) => {
                self.objects.get(&name).map_or(refused(404, "NoSuchKey"), |all| part(all, &range))
            }
            _ => refused(405, "MethodNotAllowed"),
        }
    }
}

fn part(all: &[u8], range: &str) -> Answer {
    let always = "ETag: \"x\"\r\nLast-Modified: Sat, 28 Nov 2026 12:00:00 GMT\r\nAccept-Ranges: bytes\r\n";
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return (200, always.into(), all.to_vec());
    };
    let (first, last): (usize, usize) = (first.parse().expect("a number"), last.parse().expect("a number"));
    if first >= all.len() {
        return refused(416, "InvalidRange");
    }
    let last = last.min(all.len() - 1);
    (206, format!("{always}Content-Range: bytes {first}-{last}/{}\r\n", all.len()), all[first..=last].to_vec())
}

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
    sync::watch,
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
    /// How many parts of an upload are answered.
    answered: watch::Sender<u32>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Inside {
    objects: BTreeMap<String, Vec<u8>>,
    /// Objects that come in parts: by the upload's ID.
    parts: HashMap<String, BTreeMap<u32, Vec<u8>>>,
    begun: usize,
    /// Parts whose senders are left waiting.
    waiting: usize,
    asked: Vec<Request>,
    fails: bool,
}

/// Names in one page of a list.
const PAGE: usize = 3;

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
        let mut store = Self {
            address: free_address(),
            inside: Arc::default(),
            answered: watch::Sender::new(u32::MAX),
            listening: None,
        };
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
        let (inside, answered) = (self.inside.clone(), self.answered.subscribe());
        let serve = move |stream| serve(stream, inside.clone(), answered.clone());
        self.listening = Some(listen(self.address, serve).await);
    }

    /// From now on it answers that it is broken, or not.
    pub fn fails(&self, fails: bool) {
        self.inside().fails = fails;
    }

    /// From now on it answers so many parts of each upload, and leaves who sends a further one waiting.
    pub fn answers_parts(&self, count: u32) {
        self.inside().waiting = 0;
        self.answered.send_replace(count);
    }

    /// How many senders of parts were left waiting.
    pub fn waiting(&self) -> usize {
        self.inside().waiting
    }

    /// How many parts it has of uploads that are not finished, for each of these.
    pub fn unfinished(&self) -> Vec<usize> {
        self.inside().parts.values().map(BTreeMap::len).collect()
    }

    /// The names of all that is in it, with their content.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.inside().objects.clone()
    }

    /// Puts something there.
    pub fn put(&self, name: &str, content: &[u8]) {
        self.inside().objects.insert(name.to_owned(), content.to_vec());
    }

    /// Puts other bytes in the place of some.
    pub fn change(&self, from: &[u8], to: &[u8]) {
        for content in self.inside().objects.values_mut().filter(|content| *content == from) {
            *content = to.to_vec();
        }
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

async fn serve(
    mut stream: BufReader<TcpStream>,
    inside: Arc<Mutex<Inside>>,
    mut answered: watch::Receiver<u32>,
) -> io::Result<()> {
    while let Some(request) = read(&mut stream).await? {
        if let Some(part) = argument(&request.uri, "partNumber") {
            let part: u32 = part.parse().expect("a number");
            let waits = part > *answered.borrow_and_update();
            if waits {
                inside.lock().expect("a lock").waiting += 1;
            }
            // An error says that the store has gone.
            let Ok(_) = answered.wait_for(|answered| part <= *answered).await.map(drop) else { return Ok(()) };
        }
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
        let path = request.uri.split('?').next().unwrap_or_default();
        let argument = |name: &str| argument(&request.uri, name);
        if path.trim_end_matches('/') == format!("/{BUCKET}") && argument("list-type").is_some() {
            return self.list(&request.uri);
        }
        let Some(name) = path.strip_prefix(&format!("/{BUCKET}/")).map(str::to_owned) else {
            return refused(404, "NoSuchBucket");
        };
        let range = request.headers.get("range").cloned().unwrap_or_default();
        match (&*request.method, argument("uploadId")) {
            ("POST", None) if argument("uploads").is_some() => {
                self.begun += 1;
                let id = format!("upload-{}", self.begun);
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

    /// A page of the names that begin as it is asked.
    fn list(&self, uri: &str) -> Answer {
        let text = |name| argument(uri, name).unwrap_or_default().replace("%2F", "/");
        let (prefix, after) = (text("prefix"), text("continuation-token"));
        let all = self.objects.iter().filter(|(name, _)| name.starts_with(&prefix) && **name > after);
        let page: Vec<_> = all.take(PAGE).collect();
        let mut body = format!("<ListBucketResult><Name>{BUCKET}</Name>");
        for (name, content) in &page {
            body += &format!(
                "<Contents><Key>{name}</Key><Size>{}</Size><LastModified>2026-11-28T12:00:00.000Z</LastModified>\
                 <ETag>\"x\"</ETag></Contents>",
                content.len()
            );
        }
        if let (PAGE, Some((last, _))) = (page.len(), page.last()) {
            body += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
        }
        (200, "Content-Type: application/xml\r\n".into(), (body + "</ListBucketResult>").into_bytes())
    }
}

/// An argument of a query, as it stands there.
fn argument(uri: &str, name: &str) -> Option<String> {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
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

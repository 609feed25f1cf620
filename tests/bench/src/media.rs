//! Media: how much a second comes in and goes out, and how many thumbnails are made, with the memory that takes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use hyper::Method;
use hyper::header::HeaderValue;

use crate::Result;
use crate::bench::{Bench, Meter};
use crate::http::{Call, Client, text};
use crate::person::Person;
use crate::picture;
use crate::report::Row;

/// Files that come and go at once.
const AT_ONCE: usize = 4;
const FILE: usize = 1 << 20;

/// A photograph's size, in pixels.
const PHOTO: (u32, u32) = (2_000, 1_500);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let person = bench.stranger().await?;
    let files = move_files(bench, &person).await?;
    let name = "downloads of 1 MiB, 4 at once";
    let row = timed(bench, name, files.len(), async |client, number| {
        let path = path_of(&files[number], "download")?;
        let got = person.ask(client, Method::GET, &path, Bytes::new()).await?;
        if got.len() == FILE { Ok(()) } else { Err("a file came back shorter than it went".into()) }
    })
    .await?;
    bench.report.add(row);
    thumbnails(bench, &person).await
}

async fn move_files(bench: &mut Bench, person: &Person) -> Result<Vec<String>> {
    let made = std::cell::RefCell::new(Vec::new());
    let row = timed(bench, "uploads of 1 MiB, 4 at once", bench.scale.files, async |client, number| {
        // Unequal, since equal files may be kept once.
        let mut file = vec![0_u8; FILE];
        file.chunks_mut(8).zip((number as u64) << 32..).for_each(|(chunk, n)| chunk.copy_from_slice(&n.to_le_bytes()));
        let uri = upload(client, person, "application/octet-stream", file.into()).await?;
        made.borrow_mut().push(uri);
        Ok(())
    })
    .await?;
    bench.report.add(row);
    Ok(made.into_inner())
}

/// Uploaded and asked for small: some servers make thumbnails at the one, some at the other.
async fn thumbnails(bench: &mut Bench, person: &Person) -> Result<()> {
    bench.server.forget_peak()?;
    let before = bench.server.peak()?;
    let row =
        timed(bench, "photos of 3 megapixels uploaded and shown small", bench.scale.photos, async |client, number| {
            let photo = picture::png(PHOTO.0, PHOTO.1, number as u32);
            let uri = upload(client, person, "image/png", photo.into()).await?;
            let path = format!("{}?width=320&height=240&method=scale", path_of(&uri, "thumbnail")?);
            person.ask(client, Method::GET, &path, Bytes::new()).await.map(drop)
        })
        .await?;
    let grown = bench.server.peak()?.zip(before).map(|(peak, before)| peak.saturating_sub(before) as f64);
    bench.report.add(row.bytes(grown));
    Ok(())
}

/// Does something so many times over a few connections.
async fn timed(
    bench: &Bench,
    name: &str,
    count: usize,
    work: impl AsyncFn(&mut Client, usize) -> Result<()>,
) -> Result<Row> {
    let before = Meter::read(&bench.server)?;
    let began = Instant::now();
    let workers = (0..AT_ONCE).map(async |worker| {
        let mut client = bench.client();
        let mut times = Vec::new();
        for number in (worker..count).step_by(AT_ONCE) {
            let began = Instant::now();
            work(&mut client, number).await?;
            times.push(began.elapsed());
        }
        Result::Ok(times)
    });
    let mut times: Vec<Duration> = try_join_all(workers).await?.into_iter().flatten().collect();
    let spent = began.elapsed();
    let cpu = Meter::read(&bench.server)?.each_since(&before, count);
    Ok(Row::new(name).rate(count, spent).cpu(cpu).times(&mut times))
}

async fn upload(client: &mut Client, person: &Person, kind: &'static str, body: Bytes) -> Result<String> {
    let path = "/_matrix/media/v3/upload?filename=file";
    let call = Call { method: Method::POST, path, authorization: Some(person.authorization()), body };
    text(&client.ok_as(call, HeaderValue::from_static(kind)).await?, "content_uri")
}

fn path_of(uri: &str, what: &str) -> Result<String> {
    let file = uri.strip_prefix("mxc://").ok_or("no address of a file")?;
    Ok(format!("/_matrix/client/v1/media/{what}/{file}"))
}

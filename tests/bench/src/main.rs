//! What a homeserver costs: sends, deliveries, syncs, paging, waiting people, start-up, disk, media, keys, search, push; and
//! beside another: joins, deliveries, catching up.
//!
//! It starts a Hearth or a Synapse in a directory of its own, or takes any other Matrix homeserver by `--against`, does
//! the same work through the client API (and, for federation, as a server of its own), and prints one table. It knows nothing of any server's inside: processor time and
//! memory are read from `/proc`, disk from the file system. One measure is one file, and shares with its siblings
//! only what stands in `bench.rs`.
//!
//! The generator runs on one thread, so that it never takes more than one core from the server that it measures.

mod bench;
mod catch_up;
mod circles;
mod deliveries;
mod disk;
mod hearth;
mod http;
mod inbound;
mod joins;
mod keys;
mod listener;
mod media;
mod options;
mod paging;
mod pair;
mod parked;
mod person;
mod picture;
mod process;
mod push;
mod report;
mod resident;
mod search;
mod sends;
mod server;
mod signing;
mod sliding;
mod startup;
mod synapse;
mod syncs;
mod table;
mod talk;

use std::process::ExitCode;

use clap::Parser;

use bench::Bench;
use options::{Measure, Options};
use report::Report;

/// Why a measure, or the whole run, ended early: a sentence for the person who started it.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.compare {
        Some(files) => compare(files),
        None => process::raise_open_files().and_then(|()| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // Local, as the benchmark's own servers and people share what they know without locks.
            tokio::task::LocalSet::new().block_on(&runtime, run(&options))
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn compare(files: &[std::path::PathBuf]) -> Result<()> {
    let [a, b] = files else {
        return Err("--compare takes two files".into());
    };
    print!("{}", table::compare(&Report::read(a)?, &Report::read(b)?));
    Ok(())
}

/// Runs what was asked for, and prints what was measured even if one of the measures failed.
async fn run(options: &Options) -> Result<()> {
    let mut bench = Bench::prepare(options)?;
    if !options.wants(Measure::Start)
        && let Err(failure) = bench.server.start(None).await
    {
        return Err(format!("{failure}\n{}", bench.server.last_words()).into());
    }
    let mut failed = Vec::new();
    for measure in Measure::ALL {
        if !options.wants(measure) {
            continue;
        }
        eprintln!("bench: {measure}");
        if let Err(failure) = take(&mut bench, measure).await {
            eprintln!("bench: {measure}: {failure}");
            failed.push(measure.to_string());
            if let Err(gone) = bench.server.versions().await {
                eprintln!("bench: the server is gone: {gone}\n{}", bench.server.last_words());
                break;
            }
        }
    }
    bench.server.stop().await?;
    print!("{}", table::print(&bench.report));
    if let Some(path) = &options.json {
        bench.report.write(path)?;
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("these measures failed: {}", failed.join(", ")).into()) }
}

async fn take(bench: &mut Bench, measure: Measure) -> Result<()> {
    match measure {
        Measure::Start => startup::empty(bench).await,
        Measure::Sends => sends::measure(bench).await,
        Measure::Deliveries => deliveries::measure(bench).await,
        Measure::Syncs => syncs::measure(bench).await,
        Measure::Sliding => sliding::measure(bench).await,
        Measure::Keys => keys::measure(bench).await,
        Measure::Media => media::measure(bench).await,
        Measure::Push => push::measure(bench).await,
        Measure::Talk => talk::measure(bench).await,
        Measure::Inbound => inbound::measure(bench).await,
        Measure::CatchUp => catch_up::measure(bench).await,
        Measure::Joins => joins::measure(bench).await,
        Measure::Parked => parked::measure(bench).await,
        Measure::Paging => paging::measure(bench).await,
        Measure::Disk => disk::measure(bench).await,
        Measure::StartFull => startup::full(bench).await,
        Measure::Search => search::measure(bench).await,
    }
}

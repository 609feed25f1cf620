//! The command line, and what the two scales mean.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures what a Matrix homeserver costs, and prints a table.
///
/// Without --against it builds and starts a Hearth in a directory of its own, and removes it afterwards.
#[derive(Parser)]
#[command(
    name = "bench",
    after_help = "Another homeserver needs open registration (m.login.dummy) or a registration token, and its rate \
                  limits off. To compare two:\n  bench --scale small --json a.json\n  bench --scale small --json \
                  b.json --against http://127.0.0.1:8008 --pid 4711\n  bench --compare a.json b.json"
)]
pub struct Options {
    /// Measure the homeserver at this address (plain HTTP) instead of starting a Hearth
    #[arg(long, value_name = "URL")]
    pub against: Option<String>,

    /// The command that starts the homeserver of --against; the bench starts and stops it, so that start-up too can
    /// be measured
    #[arg(long, value_name = "COMMAND", requires = "against")]
    pub start: Option<String>,

    /// The process whose processor time and memory are that homeserver's, if it runs already; repeat it for several.
    /// Memory that such a server has kept from earlier work hides some of what parked syncs cost: --start knows better
    #[arg(long, requires = "against", conflicts_with = "start")]
    pub pid: Vec<i32>,

    /// Where that homeserver keeps its data, for bytes on disk
    #[arg(long, value_name = "DIR", requires = "against")]
    pub data_dir: Option<PathBuf>,

    /// Register people with this token
    #[arg(long, value_name = "TOKEN", requires = "against")]
    pub registration_token: Option<String>,

    /// Start and measure a Synapse instead, with the Python that it is installed for
    #[arg(long, value_name = "PYTHON", conflicts_with = "against")]
    pub synapse: Option<PathBuf>,

    /// A Hearth that is built already
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    pub binary: Option<PathBuf>,

    /// Take only these measures
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_enum)]
    pub only: Vec<Measure>,

    /// How much work
    #[arg(long, value_enum, default_value_t = Size::Full)]
    pub scale: Size,

    /// How many events the store holds for start-full and search, instead of what the scale says
    #[arg(long, value_name = "N")]
    pub events: Option<u64>,

    /// The most seconds spent on filling a store or a room; what was reached by then is measured, and said
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub patience: u64,

    /// What to call the homeserver in the table
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,

    /// Write what was measured to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Compare two such files
    #[arg(long, num_args = 2, value_names = ["A", "B"], exclusive = true)]
    pub compare: Option<Vec<PathBuf>>,
}

impl Options {
    /// Whether this measure was asked for. Federation takes two servers of a kind that can be started here, and push
    /// one that trusts our gateway's certificate.
    pub fn wants(&self, measure: Measure) -> bool {
        let possible = self.against.is_none() || !measure.takes_two();
        self.only.contains(&measure) || self.only.is_empty() && possible
    }
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Start-up time and idle memory with an empty store
    Start,
    /// Sends per second, their latency and cost
    Sends,
    /// From a send to its arrival at everybody who listens
    Deliveries,
    /// Initial and incremental sync
    Syncs,
    /// Sliding sync: the first page of a room list, and updates
    Sliding,
    /// Asking for and claiming keys of encryption
    Keys,
    /// Uploads, downloads and thumbnails
    Media,
    /// Telling a push gateway of messages
    Push,
    /// Delivery from one server to another
    Talk,
    /// Events from other servers
    Inbound,
    /// What a server missed while it was away
    CatchUp,
    /// Joining rooms of other servers
    Joins,
    /// Memory for each sync that waits
    Parked,
    /// Back-pagination, near and deep
    Paging,
    /// Bytes on disk for each message and each membership change
    Disk,
    /// Start-up time and idle memory with a full store
    StartFull,
    /// Search in a full store
    Search,
}

impl Measure {
    /// In the order in which they are taken: the empty store first, the fullest last.
    pub const ALL: [Measure; 17] = [
        Measure::Start,
        Measure::Sends,
        Measure::Deliveries,
        Measure::Syncs,
        Measure::Sliding,
        Measure::Keys,
        Measure::Media,
        Measure::Push,
        Measure::Talk,
        Measure::Inbound,
        Measure::CatchUp,
        Measure::Joins,
        Measure::Parked,
        Measure::Paging,
        Measure::Disk,
        Measure::StartFull,
        Measure::Search,
    ];

    fn takes_two(self) -> bool {
        matches!(self, Measure::Push | Measure::Talk | Measure::Inbound | Measure::CatchUp | Measure::Joins)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no measure is hidden");
        f.write_str(value.get_name())
    }
}

/// How much work a run is.
#[derive(Clone, Copy, ValueEnum)]
pub enum Size {
    /// Some minutes even for a slow server
    Small,
    /// The numbers of the README
    Full,
}

/// The amounts behind a [`Size`].
pub struct Scale {
    pub name: &'static str,
    /// How long sends and deliveries are measured at each step.
    pub window: Duration,
    pub senders: &'static [usize],
    pub listening: &'static [usize],
    pub rooms: &'static [usize],
    pub sliding: &'static [usize],
    pub files: usize,
    pub photos: usize,
    /// Messages from one server to another.
    pub talk: usize,
    /// Events from the benchmark's own servers.
    pub inbound: usize,
    /// Messages that a server misses.
    pub catch_up: usize,
    /// Members of rooms that are joined.
    pub join_members: &'static [usize],
    pub parked: &'static [usize],
    /// People among whom the waiting syncs are divided.
    pub waiting_people: usize,
    pub depth: u64,
    pub disk_messages: u64,
    pub members: usize,
    pub membership_changes: usize,
    pub events: u64,
    /// How often something quick is repeated for a median.
    pub repeats: u32,
}

impl Size {
    /// The amounts.
    pub fn scale(self) -> Scale {
        match self {
            Size::Small => Scale {
                name: "small",
                window: Duration::from_secs(10),
                senders: &[1, 16, 64],
                listening: &[1, 10, 100],
                rooms: &[10, 30, 100],
                sliding: &[10, 30, 100],
                files: 40,
                photos: 10,
                talk: 500,
                inbound: 2_000,
                catch_up: 500,
                join_members: &[100, 1_000],
                parked: &[100, 1_000],
                waiting_people: 100,
                depth: 2_000,
                disk_messages: 1_000,
                members: 300,
                membership_changes: 300,
                events: 5_000,
                repeats: 3,
            },
            Size::Full => Scale {
                name: "full",
                window: Duration::from_secs(15),
                senders: &[1, 16, 64],
                listening: &[1, 100, 1_000],
                rooms: &[10, 100, 1_000],
                sliding: &[100, 1_000, 5_000],
                files: 400,
                photos: 60,
                talk: 10_000,
                inbound: 20_000,
                catch_up: 10_000,
                join_members: &[100, 1_000, 10_000],
                parked: &[1_000, 10_000],
                waiting_people: 1_000,
                depth: 100_000,
                disk_messages: 20_000,
                members: 10_000,
                membership_changes: 2_000,
                events: 1_000_000,
                repeats: 7,
            },
        }
    }
}

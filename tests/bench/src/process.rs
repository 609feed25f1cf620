//! What the operating system knows about processes and files: processor time, memory, disk, and our own limits.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Result;

/// Processor time that these processes have used, in user and kernel mode.
pub fn cpu(pids: &[i32]) -> Result<Option<Duration>> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the name in parentheses, and may hold spaces: utime and stime are the 12th and 13th after it.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [user, kernel] = fields.get(11..13).ok_or("unreadable /proc/PID/stat")? else {
            return Err("unreadable /proc/PID/stat".into());
        };
        ticks += user.parse::<u64>()? + kernel.parse::<u64>()?;
    }
    let seconds = ticks as f64 / clock_ticks_per_second() as f64;
    Ok((!pids.is_empty()).then(|| Duration::from_secs_f64(seconds)))
}

/// Resident memory of these processes, in bytes.
pub fn memory(pids: &[i32]) -> Result<Option<u64>> {
    status(pids, "VmRSS:")
}

/// The most memory that was resident in these processes, in bytes, since they began or were told to forget.
pub fn peak(pids: &[i32]) -> Result<Option<u64>> {
    status(pids, "VmHWM:")
}

/// Begins the count of the most memory anew.
pub fn forget_peak(pids: &[i32]) -> Result<()> {
    for pid in pids {
        // man 5 proc_pid_clear_refs
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    }
    Ok(())
}

fn status(pids: &[i32], name: &str) -> Result<Option<u64>> {
    let mut bytes = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no memory in /proc/PID/status")?;
        bytes += kib.parse::<u64>()? * 1024;
    }
    Ok((!pids.is_empty()).then_some(bytes))
}

/// Bytes that a directory takes on disk: blocks really written, since a database file may be longer than it is full.
pub fn disk(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// Ten thousand waiting people are ten thousand sockets. The server we start inherits the limit.
pub fn raise_open_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

/// How many connections fit under the limit on open files, with some left for the rest of the work.
pub fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(200)
}

/// The machine in one line: what the numbers depend on.
pub fn machine() -> String {
    let read = |path, key| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line: &str| line.strip_prefix(key));
        line.map(|value| value.trim_start_matches([' ', '\t', ':']).trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let model = read("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let kib = read("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let gib = kib.map_or(String::new(), |kib| format!(", {} GiB", kib.div_ceil(1 << 20)));
    format!("{cores} cores of {model}{gib}, Linux {}", kernel.trim())
}

//! The command line: what it writes, what it says, and how it ends.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::json;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::common::{Server, User, free_address, until};

/// Runs the binary in a directory until it ends.
fn run(dir: &Path, arguments: &[&str]) -> Output {
    Server::command().args(arguments).current_dir(dir).output().expect("it runs")
}

/// What it said on failing.
#[track_caller]
fn failure(output: &Output) -> String {
    assert!(!output.status.success(), "it should have failed: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn success(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn help_and_version_speak() {
    let dir = TempDir::new().expect("a directory");
    let help = success(&run(dir.path(), &["--help"]));
    for word in ["serve", "init", "check", "user", "--config", "--web-root", "hearth-data", "Examples"] {
        assert!(help.contains(word), "--help doesn't say {word}:\n{help}");
    }
    assert_eq!(success(&run(dir.path(), &["--version"])), format!("hearth {}\n", env!("CARGO_PKG_VERSION")));
    assert!(failure(&run(dir.path(), &["srve"])).contains("serve"));
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0, "asking writes nothing");
}

#[test]
fn init_writes_what_check_finds_fine_and_overwrites_nothing() {
    let dir = TempDir::new().expect("a directory");
    success(&run(dir.path(), &["init", "example.org"]));
    let key = fs::read_to_string(dir.path().join("hearth-data/signing.key")).expect("the key");
    assert!(success(&run(dir.path(), &["check", "hearth.toml"])).contains("example.org"));

    let again = failure(&run(dir.path(), &["init", "example.com"]));
    assert!(again.contains("hearth.toml exists already"), "{again}");
    assert!(fs::read_to_string(dir.path().join("hearth.toml")).expect("the file").contains("example.org"));

    success(&run(dir.path(), &["init", "example.net", "--config", "other.toml"]));
    assert!(fs::read_to_string(dir.path().join("other.toml")).expect("the file").contains("example.net"));
    assert_eq!(fs::read_to_string(dir.path().join("hearth-data/signing.key")).expect("the key"), key);

    for wrong in ["https://example.org", "exa mple", "example.org\"\nlog = \"", ""] {
        assert!(failure(&run(dir.path(), &["init", wrong, "--config", "wrong.toml"])).contains("a domain is wanted"));
    }
    assert!(!dir.path().join("wrong.toml").exists());
}

#[test]
fn secrets_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().expect("a directory");
    success(&run(dir.path(), &["init", "example.org"]));
    let mode = |path: &str| fs::metadata(dir.path().join(path)).expect("made").permissions().mode() & 0o777;
    assert_eq!((mode("hearth-data"), mode("hearth-data/signing.key")), (0o700, 0o600));
}

#[test]
fn check_says_all_problems_at_once() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("hearth.toml");
    fs::write(&file, "lissten = []\nmemory = 3\n").expect("written");
    let said = failure(&run(dir.path(), &["check", "hearth.toml"]));
    assert!(said.contains("hearth.toml:1:1: unknown key \"lissten\"; the nearest known key is \"listen\""), "{said}");
    assert!(said.contains("hearth.toml:2:10: memory: 8 MiB is the least"), "{said}");
    assert_eq!(failure(&run(dir.path(), &[])), said, "serving says the same");

    fs::write(&file, "[tls]\ncertificate = \"none.pem\"\nkey = \"none.pem\"\n").expect("written");
    assert!(failure(&run(dir.path(), &["check", "hearth.toml"])).contains("can't read the certificate none.pem"));
    assert!(failure(&run(dir.path(), &["check", "nowhere.toml"])).contains("nowhere.toml: can't be read"));
}

#[tokio::test]
async fn a_port_in_use_is_said_with_what_to_do() {
    let server = Server::start().await;
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("hearth.toml"), format!("listen = [{:?}]\n", server.address())).expect("written");
    let said = failure(&run(dir.path(), &[]));
    assert!(said.contains(server.address()) && said.contains("listens there already"), "{said}");
    assert!(said.contains("listen = [\"127.0.0.1:"), "{said}");
}

#[tokio::test]
async fn a_data_directory_that_cant_be_used_is_said_with_what_to_do() {
    let server = Server::start().await;
    let dir = TempDir::new().expect("a directory");
    let with = |line: String| {
        fs::write(dir.path().join("hearth.toml"), format!("listen = [\"127.0.0.1:0\"]\n{line}\n")).expect("written");
        failure(&run(dir.path(), &[]))
    };
    let said = with(format!("data_dir = {:?}", server.data()));
    assert!(said.contains("is in use") && said.contains("Stop it first"), "{said}");
    let said = with("data_dir = \"hearth.toml/data\"".to_owned());
    assert!(said.contains("can't make the data directory") && said.contains("set data_dir"), "{said}");
    fs::create_dir(dir.path().join("broken")).expect("made");
    fs::write(dir.path().join("broken/hearth.redb"), "not a database").expect("written");
    let said = with("data_dir = \"broken\"".to_owned());
    assert!(said.contains("hearth.redb"), "{said}");
}

#[tokio::test]
async fn a_data_directory_keeps_its_server_name() {
    let mut server = Server::start().await;
    server.stop().await;
    let config = fs::read_to_string(server.config()).expect("written");
    fs::write(server.config(), format!("server_name = \"other.example\"\n{config}")).expect("written");
    let said = failure(&run(server.dir.path(), &["--config", "hearth.toml"]));
    assert!(said.contains("belongs to the server \"localhost\""), "{said}");
}

#[tokio::test]
async fn signals_stop_the_server_cleanly() {
    let mut server = Server::start().await;
    for signal in ["INT", "TERM"] {
        // An idle connection doesn't hold it up.
        let idle = TcpStream::connect(server.address()).await.expect("connects");
        server.guest().get("/_matrix/client/versions").await.ok();
        server.signal(signal);
        assert!(server.ended().await.success(), "{signal}");
        assert!(server.log().trim_end().ends_with("stopped"), "{}", server.log());
        drop(idle);
        server.resume().await;
    }
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let mut server = Server::start().await;
    // A request that is under way is waited for, so that only the second signal ends it so soon.
    let mut slow = TcpStream::connect(server.address()).await.expect("connects");
    let head = "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.expect("written");
    server.guest().get("/_matrix/client/versions").await.ok();
    server.signal("TERM");
    while !server.log().contains("stopping") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(130));
    server.resume().await;
    server.guest().get("/_matrix/client/versions").await.ok();
}

#[tokio::test]
async fn without_readers_it_runs_all_the_same() {
    let (dir, address) = (TempDir::new().expect("a directory"), free_address());
    fs::write(dir.path().join("hearth.toml"), format!("listen = [\"{address}\"]\n")).expect("written");
    // Its output is closed before it says anything; it then has to be there for the signal.
    let script = format!("exec {} >&- 2>log", env!("CARGO_BIN_EXE_hearth"));
    let mut child = Command::new("sh").args(["-c", &script]).current_dir(dir.path()).spawn().expect("a shell");
    until("it is there", async || TcpStream::connect(address).await.ok()).await;
    let sent = Command::new("kill").arg(child.id().to_string()).status().expect("kill is there");
    let ended = child.wait().expect("our child");
    let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    assert!(sent.success() && ended.success(), "{log}");
}

/// Runs a command with a line on its standard input.
fn run_with(server: &Server, arguments: &[&str], line: &str) -> Output {
    let mut command = Server::command();
    command.args(arguments).arg("--config").arg(server.config());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    // A command that fails early doesn't read it.
    let _ = child.stdin.take().expect("piped").write_all(line.as_bytes());
    child.wait_with_output().expect("it ends")
}

#[tokio::test]
async fn accounts_are_made_and_mended_while_the_server_is_stopped() {
    let mut server = Server::start_with("registration = \"closed\"\n").await;
    let said = failure(&run_with(&server, &["user", "create", "alice"], "\n"));
    assert!(said.contains("is in use") && said.contains("Stop it first"), "{said}");
    server.stop().await;

    let first = Server::password("alice") + "\n";
    let said = success(&run_with(&server, &["user", "create", "alice", "--admin"], &first));
    assert_eq!(said, "Made @alice:localhost, an administrator.\n");
    assert!(failure(&run_with(&server, &["user", "create", "alice"], &first)).contains("taken"));
    assert!(failure(&run_with(&server, &["user", "create", "b ob"], &first)).contains("a name has"));
    assert!(failure(&run_with(&server, &["user", "create", "bob"], "short\n")).contains("8 characters"));
    let made_up = success(&run_with(&server, &["user", "create", "@bob:localhost"], "\n"));
    let password = made_up.trim().rsplit(' ').next().expect("the password").to_owned();

    server.resume().await;
    let alice = server.login("alice").await;
    let bob =
        json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "bob"}, "password": password});
    let session = server.guest().post("/_matrix/client/v3/login", bob.clone()).await.ok();
    let with_token = User { token: session["access_token"].as_str().map(str::to_owned), ..server.guest() };
    let one_time = json!({"one_time_keys": {"curve25519:A": "AAAA"}});
    with_token.post("/_matrix/client/v3/keys/upload", one_time).await.ok();
    server.stop().await;

    let said = success(&run_with(&server, &["user", "reset-password", "bob"], "another password\n"));
    assert_eq!(said, "@bob:localhost has a new password, and 1 sessions ended.\n");
    success(&run_with(&server, &["user", "promote", "bob"], ""));
    for command in [["user", "promote", "carol"], ["user", "reset-password", "carol"]] {
        assert!(failure(&run_with(&server, &command, "a new password\n")).contains("no such account"));
    }

    server.resume().await;
    server.guest().post("/_matrix/client/v3/login", bob).await.fails(403, "M_FORBIDDEN");
    alice.get("/_matrix/client/v3/account/whoami").await.ok();
    // What the ended session had published is gone with it.
    let device = session["device_id"].as_str().expect("a device");
    let claim = json!({"one_time_keys": {"@bob:localhost": {device: "curve25519"}}});
    let claimed = alice.post("/_matrix/client/v3/keys/claim", claim).await.ok();
    assert_eq!(claimed["one_time_keys"], json!({}));
}

#[test]
fn mending_accounts_where_there_are_none_makes_nothing() {
    let dir = TempDir::new().expect("a directory");
    assert!(failure(&run(dir.path(), &["user", "promote", "alice"])).contains("go to the directory"));
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[test]
fn it_takes_as_many_open_files_as_it_may() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("hearth.toml"), "listen = [\"127.0.0.1:0\"]\n").expect("written");
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -Sn 200 && exec \"$0\"", env!("CARGO_BIN_EXE_hearth")])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let output = child.stdout.take().expect("it has an output");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("text");
    assert!(line.starts_with("Hearth is at http://127.0.0.1:") && !line.trim_end().ends_with(":0"), "{line}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("it runs");
    child.kill().expect("our child");
    child.wait().expect("our child");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("Linux says so");
    let numbers: Vec<_> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{files}");
    assert_ne!(numbers[0], "200", "{files}");
}

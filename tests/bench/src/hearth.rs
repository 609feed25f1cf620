//! How a Hearth of our own is built, configured and started. What changes with its configuration changes here alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::Result;
use crate::http::Authority;
use crate::server::{Federation, Launch};

/// Writes a configuration into `home`, and says how to start the server on it.
pub fn launch(binary: &Path, home: &Path, authority: &Authority, federation: Option<&Federation>) -> Result<Launch> {
    let config = home.join("config.toml");
    let data = home.join("data");
    let name = federation.map_or("localhost", |federation| federation.name.as_str());
    let mut settings = format!(
        "server_name = {name:?}\n\
         listen = [\"{authority}\"]\n\
         data_dir = {data:?}\n\
         registration = \"open\"\n\
         rate_limits = false\n"
    );
    if let Some(Federation { address, certificates, .. }) = federation {
        settings.push_str(&format!(
            "[tls]\n\
             listen = [\"{address}\"]\n\
             certificate = {:?}\n\
             key = {:?}\n\
             [federation]\n\
             trust = [{:?}]\n\
             allow_private_addresses = true\n\
             notaries = []\n",
            certificates.join("localhost.pem"),
            certificates.join("localhost-key.pem"),
            certificates.join("ca.pem"),
        ));
    }
    fs::write(&config, settings)?;
    let arguments = vec!["serve".into(), "--config".into(), config.into()];
    Ok(Launch { program: binary.into(), arguments, data: Some(data) })
}

/// An authority of our own and a certificate of `localhost`, for servers that federate on this machine.
pub fn certificates(binary: &Path) -> Result<TempDir> {
    let folder = TempDir::new()?;
    let made = Command::new(binary).args(["dev-cert", "localhost", "--dir"]).arg(folder.path()).output()?;
    if !made.status.success() {
        return Err(format!("no certificates: {}", String::from_utf8_lossy(&made.stderr)).into());
    }
    Ok(folder)
}

/// Builds the server in release mode with the Cargo that runs us, and says where the binary is.
pub fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let output = Command::new(cargo)
        .args(["build", "--release", "--bin", "hearth", "--message-format", "json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the server doesn't build".into());
    }
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line)?;
        if message["target"]["name"] == "hearth"
            && let Some(executable) = message["executable"].as_str()
        {
            return Ok(executable.into());
        }
    }
    Err("cargo built no hearth".into())
}

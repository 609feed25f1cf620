//! Certificates to try things with: a small authority of one's own, and certificates of servers that it
//! vouches for. Nobody else trusts it, and nobody should.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use ruma::ServerName;

use crate::base::{clock, signing::write_private};

/// The files of the authority.
pub const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca-key.pem";
const MS_OF_YEAR: u64 = 31_556_952_000;

/// Makes a certificate for each name in a folder, as `NAME.pem` and `NAME-key.pem`, by the authority that is
/// there, which is made if there is none. A certificate that is there already is made anew.
pub fn make(folder: &Path, names: &[String]) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("can't make {}: {error}", folder.display()))?;
    let authority = authority(folder)?;
    for name in names {
        let host = ServerName::parse(name.as_str())
            .map_err(|_| format!("{name:?} is not the name of a server: try example.org, localhost or an IP address"))?
            .host()
            .trim_matches(['[', ']'])
            .to_owned();
        let failed = |error: rcgen::Error| format!("can't make a certificate for {name}: {error}");
        let mut params = CertificateParams::new([host.clone()]).map_err(failed)?;
        if host == "localhost" {
            params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
            params.subject_alt_names.push(SanType::IpAddress(Ipv6Addr::LOCALHOST.into()));
        }
        params.distinguished_name.push(DnType::CommonName, &*host);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        limit(&mut params);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &authority).map_err(failed)?;
        replace(&folder.join(format!("{host}-key.pem")), &key.serialize_pem())?;
        let path = folder.join(format!("{host}.pem"));
        fs::write(&path, certificate.pem()).map_err(|error| cant_write(&path, &error))?;
    }
    Ok(())
}

fn authority(folder: &Path) -> Result<Issuer<'static, KeyPair>, String> {
    let (path, key_path) = (folder.join(AUTHORITY), folder.join(AUTHORITY_KEY));
    let failed = |error: rcgen::Error| format!("can't make an authority: {error}");
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, "Hearth's authority for development");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    limit(&mut params);
    let key = match fs::read_to_string(&key_path) {
        Ok(pem) => {
            KeyPair::from_pem(&pem).map_err(|error| format!("{} is not a private key: {error}", key_path.display()))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate().map_err(failed)?;
            write_private(&key_path, &key.serialize_pem()).map_err(|error| cant_write(&key_path, &error))?;
            key
        }
        Err(error) => return Err(format!("can't read {}: {error}", key_path.display())),
    };
    if !path.exists() {
        let certificate = params.self_signed(&key).map_err(failed)?;
        fs::write(&path, certificate.pem()).map_err(|error| cant_write(&path, &error))?;
    }
    Ok(Issuer::new(params, key))
}

/// Good from last year to the end of next year.
fn limit(params: &mut CertificateParams) {
    let year = 1970 + i32::try_from(clock::now_ms() / MS_OF_YEAR).unwrap_or(0);
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + 2, 1, 1);
}

fn replace(path: &Path, text: &str) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cant_write(path, &error)),
        _ => {}
    }
    write_private(path, text).map_err(|error| cant_write(path, &error))
}

fn cant_write(path: &Path, error: &io::Error) -> String {
    format!("can't write {}: {error}", path.display())
}

//! What an application asks for: everything that a person's client can do, as one device of theirs.
//! spec: client-server-api#scope

/// Characters of a device ID at least and at most.
const DEVICE: std::ops::RangeInclusive<usize> = 8..=255;

/// The prefixes of scope tokens: the stable one, and that of clients from before it.
const PREFIXES: [&str; 2] = ["urn:matrix:client:", "urn:matrix:org.matrix.msc2967.client:"];

/// The device that a scope asks for. None if the scope asks for no full access, or for anything but
/// exactly one device. Tokens that mean nothing here are not granted, and don't matter.
pub fn device(scope: &str) -> Option<String> {
    let (mut full, mut devices) = (false, Vec::new());
    for token in scope.split(' ') {
        let Some(rest) = PREFIXES.iter().find_map(|prefix| token.strip_prefix(prefix)) else { continue };
        match rest.split_once(':') {
            Some(("api", "*")) => full = true,
            Some(("device", id)) => devices.push(id),
            _ => {}
        }
    }
    let [device] = devices[..] else { return None };
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let good = full && DEVICE.contains(&device.len()) && device.bytes().all(unreserved);
    good.then(|| device.to_owned())
}

/// What is granted, for a device.
pub fn granted(device: &str) -> String {
    format!("urn:matrix:client:api:* urn:matrix:client:device:{device}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_full_access_for_one_device() {
        assert_eq!(device(&granted("ABCDEFGHIJ")).as_deref(), Some("ABCDEFGHIJ"));
        let old =
            "openid urn:matrix:org.matrix.msc2967.client:api:* urn:matrix:org.matrix.msc2967.client:device:abcdefgh";
        assert_eq!(device(old).as_deref(), Some("abcdefgh"));
        for wrong in [
            "",
            "urn:matrix:client:api:*",
            "urn:matrix:client:device:ABCDEFGHIJ",
            "urn:matrix:client:api:* urn:matrix:client:device:short",
            "urn:matrix:client:api:* urn:matrix:client:device:ABCDEFGHIJ urn:matrix:client:device:KLMNOPQRST",
            "urn:matrix:client:api:* urn:matrix:client:device:ABCDE/GHIJ",
        ] {
            assert_eq!(device(wrong), None, "{wrong}");
        }
    }
}

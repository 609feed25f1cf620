//! Signatures on JSON objects, checked. Knows how a signature is made and not whose keys are whose.
//! spec: appendices#checking-for-a-signature

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, signatures::to_canonical_json_string_for_signing};

use super::ed25519::{Claim, PublicKey};

/// Base64 as others write it: with padding or without.
pub const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What a signature is made over: canonical JSON without `signatures` and `unsigned`.
pub fn signed_part(object: &CanonicalJsonObject) -> Option<String> {
    to_canonical_json_string_for_signing(object).ok()
}

/// The signature in an object by an entity's key, such as `ed25519:ABC`.
pub fn signature<'a>(object: &'a CanonicalJsonObject, entity: &str, key_id: &str) -> Option<&'a str> {
    let CanonicalJsonValue::Object(entities) = object.get("signatures")? else { return None };
    let CanonicalJsonValue::Object(signatures) = entities.get(entity)? else { return None };
    signatures.get(key_id)?.as_str()
}

/// Whether `signature` over `message` was made by the Ed25519 key whose public half is `public`, all
/// three as they stand in JSON.
pub fn verify(message: &str, signature: &str, public: &str) -> bool {
    public_key(public).is_some_and(|key| has_signed(&key, message, signature))
}

/// The key with that public half, as it stands in JSON. None if there is none.
pub fn public_key(public: &str) -> Option<PublicKey> {
    PublicKey::new(&LENIENT.decode(public).ok()?)
}

/// Whether a key has made a signature over a message, as it stands in JSON.
fn has_signed(key: &PublicKey, message: &str, signature: &str) -> bool {
    claim(key, message, signature).is_some_and(|claim| claim.holds())
}

/// That a key has made a signature over a message, as it stands in JSON. None if that is none at all.
pub fn claim<'k>(key: &'k PublicKey, message: &str, signature: &str) -> Option<Claim<'k>> {
    key.claim(message.as_bytes(), &LENIENT.decode(signature).ok()?)
}

/// Whether an object carries a good signature by an entity's key.
pub fn is_signed_by(object: &CanonicalJsonObject, entity: &str, key_id: &str, public: &str) -> bool {
    public_key(public).is_some_and(|key| is_signed_by_key(object, entity, key_id, &key))
}

/// The same for a key that is at hand.
pub fn is_signed_by_key(object: &CanonicalJsonObject, entity: &str, key_id: &str, key: &PublicKey) -> bool {
    let signature = signature(object, entity, key_id);
    signature.is_some_and(|signature| signed_part(object).is_some_and(|message| has_signed(key, &message, signature)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::json;

    /// spec: appendices#signing-json gives these as its own test vectors.
    #[test]
    fn the_specifications_example_verifies_and_nothing_else_does() {
        let public = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI";
        let signed = r#"{"one": 1, "two": "Two", "signatures": {"domain": {"ed25519:1":
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"}}}"#;
        let mut object = json::canonical_from_raw(serde_json::from_str(signed).expect("JSON")).expect("canonical");
        assert!(is_signed_by(&object, "domain", "ed25519:1", public));
        object.insert("unsigned".into(), CanonicalJsonValue::Null);
        assert!(is_signed_by(&object, "domain", "ed25519:1", public));
        assert!(!is_signed_by(&object, "other", "ed25519:1", public));
        assert!(!is_signed_by(&object, "domain", "ed25519:2", public));
        object.insert("one".into(), CanonicalJsonValue::Null);
        assert!(!is_signed_by(&object, "domain", "ed25519:1", public));
        assert!(!verify("x", "not base64!", public));
    }
}

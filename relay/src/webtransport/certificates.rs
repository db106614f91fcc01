//! The certificates of the WebTransport listener.
//!
//! A browser accepts a self-signed certificate by its hash only when it is an ECDSA P-256 one valid for at most 14 days
//! (W3C WebTransport, "custom certificate requirements"), so the listener changes it all the time. Time is cut into
//! windows of equal length on the Unix epoch; each window has one certificate, and everything in it (key, serial,
//! signature by RFC 6979) is derived from the relay's identity key and the window's number. Nothing is kept on disk,
//! and a restart, or a second process with the same key, shows the same hashes.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::identity::Keypair;
use libp2p::multihash::Multihash;
use p256::SecretKey;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::EncodePrivateKey;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, RemoteKeyPair, SerialNumber, SignatureAlgorithm,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// How long one certificate is the one shown.
pub const WINDOW: Duration = Duration::from_secs(12 * DAY);
/// Added to both ends of a certificate's validity, for clocks that are wrong.
pub const SKEW: Duration = Duration::from_secs(DAY - 3600);
/// What browsers refuse to exceed.
pub const MAX_VALIDITY: Duration = Duration::from_secs(14 * DAY);

const DAY: u64 = 24 * 3600;
const ALTERNATIVE_NAME: &str = "localhost";
/// Multihash code of SHA2-256.
const SHA2_256: u64 = 0x12;
/// A derived scalar is out of range once in 2^32 keys; the next attempt then gives another.
const MAX_KEY_ATTEMPTS: u8 = 8;

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    #[error(
        "the identity key has no secret to derive a certificate key from (ed25519 is required)"
    )]
    Underivable,
    #[error("window {0} lies outside of the dates a certificate can carry")]
    Window(u64),
    #[error("encoding the certificate: {0}")]
    Encoding(#[from] rcgen::Error),
    #[error("encoding the certificate's key: {0}")]
    Key(#[from] p256::pkcs8::Error),
}

/// What a listener shows and announces at one moment.
pub struct Certificates {
    /// The certificate shown.
    pub current: Certificate,
    /// Hashes in the listener's address: of the current certificate and of the next.
    pub announced: [Multihash<64>; 2],
    /// Hashes confirmed in the Noise handshake: those, and that of the window before, because a client may have learned
    /// the address before the last change.
    pub confirmed: HashSet<Multihash<64>>,
    /// When the next certificate has to be shown.
    pub until: SystemTime,
}

impl Certificates {
    pub fn at(identity: &Keypair, now: SystemTime) -> Result<Self, CertificateError> {
        let window = window_at(now);
        let current = Certificate::of_window(identity, window)?;
        let next = Certificate::of_window(identity, window + 1)?.hash;
        let mut confirmed = HashSet::from([current.hash, next]);
        if let Some(previous) = window.checked_sub(1) {
            confirmed.insert(Certificate::of_window(identity, previous)?.hash);
        }
        Ok(Self {
            announced: [current.hash, next],
            confirmed,
            until: start_of(window + 1),
            current,
        })
    }
}

/// One self-signed certificate with its key.
pub struct Certificate {
    pub window: u64,
    pub der: Vec<u8>,
    /// PKCS #8.
    pub key: Vec<u8>,
    /// SHA2-256 of the DER, as in `/certhash`.
    pub hash: Multihash<64>,
}

impl Certificate {
    pub fn of_window(identity: &Keypair, window: u64) -> Result<Self, CertificateError> {
        let secret = derive_key(identity, window)?;
        let key = secret.to_pkcs8_der()?.as_bytes().to_vec();
        // A name is not checked against anything, but Chromium refuses a certificate that has no extension at all.
        let mut params = CertificateParams::new(vec![ALTERNATIVE_NAME.to_owned()])?;
        params.not_before =
            date(start_of(window) - SKEW.min(since_epoch(start_of(window))), window)?;
        params.not_after = date(start_of(window + 1) + SKEW, window)?;
        params.serial_number = Some(SerialNumber::from(window));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "libp2p webtransport");
        let signer = rcgen::KeyPair::from_remote(Box::new(DeterministicSigner::new(&secret)))?;
        let der = params.self_signed(&signer)?.der().to_vec();
        let hash = Multihash::wrap(SHA2_256, &Sha256::digest(&der))
            .map_err(|_| CertificateError::Window(window))?;
        Ok(Self { window, der, key, hash })
    }
}

/// The number of the window that `now` lies in.
pub fn window_at(now: SystemTime) -> u64 {
    since_epoch(now).as_secs() / WINDOW.as_secs()
}

fn start_of(window: u64) -> SystemTime {
    UNIX_EPOCH
        + Duration::from_secs(window.saturating_mul(WINDOW.as_secs()).min(u64::from(u32::MAX) * 2))
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn date(time: SystemTime, window: u64) -> Result<OffsetDateTime, CertificateError> {
    i64::try_from(since_epoch(time).as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(CertificateError::Window(window))
}

fn derive_key(identity: &Keypair, window: u64) -> Result<SecretKey, CertificateError> {
    for attempt in 0..MAX_KEY_ATTEMPTS {
        let domain = format!("tabpeer-relay webtransport certificate {window} {attempt}");
        let bytes =
            identity.derive_secret(domain.as_bytes()).ok_or(CertificateError::Underivable)?;
        if let Ok(secret) = SecretKey::from_slice(&bytes) {
            return Ok(secret);
        }
    }
    Err(CertificateError::Underivable)
}

/// Signs with the nonce of RFC 6979, so that the same certificate always has the same bytes (ring's nonces are random).
struct DeterministicSigner {
    key: SigningKey,
    public: Vec<u8>,
}

impl DeterministicSigner {
    fn new(secret: &SecretKey) -> Self {
        Self {
            key: SigningKey::from(secret),
            public: secret.public_key().to_encoded_point(false).as_bytes().to_vec(),
        }
    }
}

impl RemoteKeyPair for DeterministicSigner {
    fn public_key(&self) -> &[u8] {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: Signature =
            self.key.try_sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seed: u8) -> Keypair {
        Keypair::ed25519_from_bytes([seed; 32]).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn validity_is_what_browsers_accept() {
        assert!(WINDOW + SKEW + SKEW <= MAX_VALIDITY);
        let now = at(1_800_000_000);
        let start = start_of(window_at(now));
        assert!(start <= now && now < start + WINDOW);
    }

    #[test]
    fn same_key_and_window_give_the_same_bytes() {
        let now = at(1_800_000_000);
        let first = Certificates::at(&identity(1), now).unwrap();
        let again = Certificates::at(&identity(1), now + Duration::from_secs(60)).unwrap();
        assert_eq!(first.current.der, again.current.der);
        assert_eq!(first.announced, again.announced);
        let other = Certificates::at(&identity(2), now).unwrap();
        assert_ne!(first.announced, other.announced);
    }

    #[test]
    fn rotation_keeps_every_announced_hash_good_for_a_window() {
        let now = at(1_800_000_000);
        let before = Certificates::at(&identity(1), now).unwrap();
        let last_second =
            Certificates::at(&identity(1), before.until - Duration::from_secs(1)).unwrap();
        let after = Certificates::at(&identity(1), before.until).unwrap();
        assert_eq!(before.announced, last_second.announced);
        assert_eq!(after.current.window, before.current.window + 1);
        assert_eq!(
            after.announced[0], before.announced[1],
            "what was announced as next is now shown"
        );
        assert!(before.announced.iter().all(|hash| after.confirmed.contains(hash)));
        assert!(!after.announced.contains(&before.announced[0]));
    }

    #[test]
    fn times_out_of_range_do_not_panic() {
        assert!(Certificates::at(&identity(1), UNIX_EPOCH).is_ok());
        assert!(Certificates::at(&identity(1), UNIX_EPOCH - Duration::from_secs(5)).is_ok());
        let _ = Certificate::of_window(&identity(1), u64::from(u32::MAX));
    }

    /// An address that an operator printed stays right after an upgrade of this program or of the crates beneath.
    #[test]
    fn encoding_is_pinned() {
        let certificate = Certificate::of_window(&identity(7), 1736).unwrap();
        assert_eq!(
            libp2p::multiaddr::Protocol::Certhash(certificate.hash).to_string(),
            "/certhash/uEiDTQnInun-MfJw3ZK7dPq1H1kje7ruHftiYN7okmmbeGQ"
        );
    }
}

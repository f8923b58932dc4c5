//! The Store's signing certificates: which one signs at an instant, which ones are still accepted, and how they rotate.

use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use storekeeper_model::{CertificateId, Timestamp};

use crate::certificate::SigningCertificate;
use crate::entropy::Entropy;
use crate::key_text::key_header;
use crate::management::CertificateView;
use crate::sync::{lock, read, write};
use crate::{Profile, Signatures};

/// How often a certificate rotates in the era of [`Profile::GameDocs`].
pub(crate) const ROTATION_PERIOD: Duration = Duration::from_secs(7 * 86_400);
/// How long one that stopped signing is accepted for renewal there.
pub(crate) const ACCEPTED_AFTERWARDS: Duration = Duration::from_secs(14 * 86_400);
/// How far into its period the first certificate is: a key minted at the start meets a rotation within 36 hours and is
/// refused 15.5 days later, and one issued 20 days before the start is refused at once.
const FIRST_AGE: Duration = Duration::from_secs(11 * 43_200);
/// More are kept only while all are accepted.
const CERTIFICATES_MAX: usize = 64;

/// A certificate and its place in time.
#[derive(Clone)]
pub(crate) struct StoreCertificate {
    /// The key and its names.
    pub(crate) certificate: Arc<SigningCertificate>,
    /// The encoded header of the keys it signs.
    pub(crate) header: Arc<str>,
    /// When it began to sign; `None` for always.
    pub(crate) sign_from: Option<Timestamp>,
    /// From when on its keys are no longer renewed; `None` for never.
    pub(crate) renew_until: Option<Timestamp>,
}

impl StoreCertificate {
    /// Places a certificate in time.
    pub(crate) fn new(
        certificate: SigningCertificate,
        sign_from: Option<Timestamp>,
        renew_until: Option<Timestamp>,
    ) -> Self {
        let header = key_header(&certificate).into();
        Self { certificate: Arc::new(certificate), header, sign_from, renew_until }
    }

    /// Whether keys it signed are renewed at `now`.
    pub(crate) fn is_accepted(&self, now: Timestamp) -> bool {
        self.renew_until.is_none_or(|until| now < until)
    }
}

/// All certificates in the order in which they began to sign, and the schedule, if there is one.
#[derive(Clone)]
pub(crate) struct CertificateList {
    /// Never empty.
    pub(crate) list: Vec<StoreCertificate>,
    /// A moment at which a period of the schedule begins; `None`: rotation on request only.
    pub(crate) anchor: Option<Timestamp>,
}

impl CertificateList {
    /// The one that signs at `at`: the last that began before, or else the first.
    pub(crate) fn signing_at(&self, at: Timestamp) -> &StoreCertificate {
        let began = |certificate: &&StoreCertificate| certificate.sign_from.is_none_or(|from| from <= at);
        self.list.iter().rfind(began).unwrap_or(&self.list[0])
    }

    /// The one whose keys have this encoded header.
    pub(crate) fn by_header(&self, header: &str) -> Option<&StoreCertificate> {
        self.list.iter().rfind(|certificate| *certificate.header == *header)
    }

    /// The one that a decoded header names, by `kid` or else by `x5t`.
    pub(crate) fn by_name(&self, kid: Option<&str>, x5t: Option<&str>) -> Option<&StoreCertificate> {
        self.list.iter().rfind(|certificate| match (kid, x5t) {
            (Some(kid), _) => certificate.certificate.id().as_str() == kid,
            (None, Some(x5t)) => certificate.certificate.x5t() == x5t,
            (None, None) => false,
        })
    }

    /// How many are accepted for renewal.
    pub(crate) fn accepted(&self, now: Timestamp) -> usize {
        self.list.iter().filter(|certificate| certificate.is_accepted(now)).count()
    }

    /// The beginning of the scheduled period around `at`, when no certificate has begun in it yet.
    fn missing_period(&self, at: Timestamp) -> Option<Timestamp> {
        let begins_at = period_start(self.anchor?, at);
        let is_there =
            |certificate: &StoreCertificate| certificate.sign_from.is_some_and(|from| from >= begins_at && from <= at);
        (!self.list.iter().any(is_there)).then_some(begins_at)
    }

    fn insert(&mut self, certificate: StoreCertificate, now: Timestamp) {
        let place = self.list.partition_point(|other| other.sign_from <= certificate.sign_from);
        self.list.insert(place, certificate);
        if self.list.len() > CERTIFICATES_MAX {
            let useless = self.list.iter().position(|other| !other.is_accepted(now) && other.sign_from <= Some(now));
            if let Some(index) = useless.filter(|index| *index != place) {
                self.list.remove(index);
            }
        }
    }

    /// Ends the acceptance of everything that is there.
    fn end_acceptance(&mut self, until: Timestamp) {
        for certificate in &mut self.list {
            certificate.renew_until = Some(certificate.renew_until.map_or(until, |end| end.min(until)));
        }
    }

    /// Begins or ends the schedule. The signing certificate then counts as that of the running period.
    fn follow(&mut self, profile: Profile, now: Timestamp) {
        let scheduled = profile == Profile::GameDocs;
        if scheduled == self.anchor.is_some() {
            return;
        }
        let anchor = now - FIRST_AGE;
        let signing = self.signing_at(now).certificate.id().clone();
        for certificate in self.list.iter_mut().filter(|other| *other.certificate.id() == signing) {
            if scheduled {
                certificate.sign_from = certificate.sign_from.max(Some(anchor));
            }
            certificate.renew_until = scheduled.then(|| end_of_acceptance(anchor));
        }
        self.anchor = scheduled.then_some(anchor);
    }
}

/// When the period around `at` began.
fn period_start(anchor: Timestamp, at: Timestamp) -> Timestamp {
    let period = i64::try_from(ROTATION_PERIOD.as_millis()).expect("seven days fit");
    let distance = at.millis().saturating_sub(anchor.millis());
    Timestamp::from_millis(anchor.millis().saturating_add(distance.div_euclid(period) * period))
}

fn end_of_acceptance(period_begins_at: Timestamp) -> Timestamp {
    period_begins_at + ROTATION_PERIOD + ACCEPTED_AFTERWARDS
}

/// The certificates behind their lock. A request works on the list as it found it.
pub(crate) struct Authority {
    list: RwLock<Arc<CertificateList>>,
    /// Held while a certificate is made, by those who need that very certificate.
    making: Mutex<()>,
    signatures: Signatures,
}

impl Authority {
    /// With one fresh certificate.
    pub(crate) fn new(profile: Profile, signatures: Signatures, entropy: &Entropy, now: Timestamp) -> Self {
        let certificate = generate(signatures, entropy);
        let mut list = CertificateList { list: vec![StoreCertificate::new(certificate, None, None)], anchor: None };
        list.follow(profile, now);
        Self::restore(list, signatures)
    }

    /// With a list that is not empty.
    pub(crate) fn restore(list: CertificateList, signatures: Signatures) -> Self {
        Self { list: RwLock::new(Arc::new(list)), making: Mutex::new(()), signatures }
    }

    /// The list as it is.
    pub(crate) fn list(&self) -> Arc<CertificateList> {
        Arc::clone(&read(&self.list))
    }

    /// The list with the certificate that the schedule demands for `at`, made now if need be.
    pub(crate) fn list_for(&self, at: Timestamp, now: Timestamp, entropy: &Entropy) -> Arc<CertificateList> {
        let list = self.list();
        if list.missing_period(at).is_none() {
            return list;
        }
        let _making = lock(&self.making);
        let list = self.list();
        let Some(begins_at) = list.missing_period(at) else { return list };
        let made = generate(self.signatures, entropy);
        let made = StoreCertificate::new(made, Some(begins_at), Some(end_of_acceptance(begins_at)));
        self.change(|list| list.insert(made, now));
        self.list()
    }

    /// Makes a new signing certificate and limits the acceptance of all others. Without a limit they keep their own, or
    /// in the scheduled era get its 14 days.
    pub(crate) fn rotate(
        &self,
        accept_previous_for: Option<Duration>,
        now: Timestamp,
        entropy: &Entropy,
    ) -> CertificateView {
        let _making = lock(&self.making);
        let made = generate(self.signatures, entropy);
        let id = made.id().clone();
        self.change(|list| {
            let scheduled = list.anchor.map(|anchor| period_start(anchor, now));
            let limit = accept_previous_for.or(scheduled.map(|_| ACCEPTED_AFTERWARDS));
            if let Some(limit) = limit {
                list.end_acceptance(now + limit);
            }
            list.insert(StoreCertificate::new(made, Some(now), scheduled.map(end_of_acceptance)), now);
        });
        let view = self.views(now).into_iter().find(|view| view.certificate == id);
        view.expect("a certificate just made is listed")
    }

    /// Follows a change of the era.
    pub(crate) fn follow(&self, profile: Profile, now: Timestamp) {
        self.change(|list| list.follow(profile, now));
    }

    /// The list as the control port shows it.
    pub(crate) fn views(&self, now: Timestamp) -> Vec<CertificateView> {
        let list = self.list();
        let signing = list.signing_at(now).certificate.id();
        let view = |certificate: &StoreCertificate| CertificateView {
            certificate: certificate.certificate.id().clone(),
            x5t: certificate.certificate.x5t().to_owned(),
            sign_from: certificate.sign_from,
            renew_until: certificate.renew_until,
            signing: certificate.certificate.id() == signing,
        };
        list.list.iter().map(view).collect()
    }

    /// The certificate with this `kid`.
    pub(crate) fn find(&self, id: &CertificateId) -> Option<StoreCertificate> {
        self.list().by_name(Some(id.as_str()), None).cloned()
    }

    fn change(&self, change: impl FnOnce(&mut CertificateList)) {
        let mut list = write(&self.list);
        let mut changed = CertificateList::clone(&list);
        change(&mut changed);
        *list = Arc::new(changed);
    }
}

fn generate(signatures: Signatures, entropy: &Entropy) -> SigningCertificate {
    SigningCertificate::generate("Microsoft Store key signing (emulated)", signatures, &mut entropy.draw())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const START: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn authority(profile: Profile) -> (Authority, Entropy) {
        let entropy = Entropy::new(1, 1);
        (Authority::new(profile, Signatures::Skipped, &entropy, START), entropy)
    }

    /// The certificate that signs at an instant, and until when its keys are renewed.
    fn signing(authority: &Authority, entropy: &Entropy, at: Timestamp) -> (CertificateId, Option<Timestamp>) {
        let list = authority.list_for(at, at, entropy);
        let certificate = list.signing_at(at);
        (certificate.certificate.id().clone(), certificate.renew_until)
    }

    #[test]
    fn documented_rotates_on_request_only() {
        let (authority, entropy) = authority(Profile::Documented);
        let (first, until) = signing(&authority, &entropy, START);
        assert_eq!(until, None);
        assert_eq!(signing(&authority, &entropy, START + 400 * DAY), (first.clone(), None));
        let rotated = authority.rotate(Some(5 * DAY), START, &entropy);
        assert!(rotated.signing && rotated.certificate != first);
        let list = authority.list();
        let first = list.by_name(Some(first.as_str()), None).unwrap();
        assert!(first.is_accepted(START + 5 * DAY - Duration::from_millis(1)));
        assert!(!first.is_accepted(START + 5 * DAY));
        assert_eq!(signing(&authority, &entropy, START), (rotated.certificate, None));
    }

    #[test]
    fn rotating_without_a_limit_keeps_the_previous_accepted() {
        let (authority, entropy) = authority(Profile::Documented);
        authority.rotate(None, START, &entropy);
        assert_eq!(authority.list().accepted(START + 400 * DAY), 2);
        authority.rotate(Some(Duration::ZERO), START + DAY, &entropy);
        assert_eq!(authority.list().accepted(START + DAY), 1);
    }

    #[test]
    fn game_docs_renews_every_key_for_14_days_and_none_for_more_than_21() {
        let (authority, entropy) = authority(Profile::GameDocs);
        for hour in 0..24 * 60 {
            let at = START + Duration::from_secs(hour * 3600);
            let until = signing(&authority, &entropy, at).1.unwrap().since(at);
            assert!(until >= 14 * DAY && until <= 21 * DAY, "hour {hour}: {until:?}");
        }
        assert!(authority.list().list.len() <= 10);
        let at_start = signing(&authority, &entropy, START).1.unwrap();
        assert_eq!(at_start.since(START), 15 * DAY + DAY / 2);
    }

    #[test]
    fn game_docs_knows_the_past_and_leaps_over_years() {
        let (authority, entropy) = authority(Profile::GameDocs);
        let list = authority.list_for(START - 20 * DAY, START, &entropy);
        assert!(!list.signing_at(START - 20 * DAY).is_accepted(START));
        let list = authority.list_for(START - 10 * DAY, START, &entropy);
        assert!(list.signing_at(START - 10 * DAY).is_accepted(START));
        let later = START + 3650 * DAY;
        let list = authority.list_for(later, later, &entropy);
        assert_eq!((list.list.len(), list.accepted(later)), (4, 1));
        for week in 0..200 {
            let at = later + 7 * week * DAY;
            authority.list_for(at, at, &entropy);
        }
        assert!(authority.list().list.len() <= CERTIFICATES_MAX);
    }

    #[test]
    fn the_schedule_begins_and_ends_with_the_profile() {
        let (authority, entropy) = authority(Profile::Documented);
        let first = signing(&authority, &entropy, START).0;
        authority.follow(Profile::GameDocs, START);
        assert_eq!(signing(&authority, &entropy, START), (first.clone(), Some(START + 15 * DAY + DAY / 2)));
        let second = signing(&authority, &entropy, START + 2 * DAY);
        assert_ne!(second.0, first);
        authority.follow(Profile::Documented, START + 2 * DAY);
        assert_eq!(signing(&authority, &entropy, START + 300 * DAY), (second.0, None));
        assert!(!authority.list().by_name(Some(first.as_str()), None).unwrap().is_accepted(START + 30 * DAY));
    }

    #[test]
    fn a_clock_set_back_finds_the_certificate_of_that_time() {
        let (authority, entropy) = authority(Profile::GameDocs);
        let first = signing(&authority, &entropy, START).0;
        signing(&authority, &entropy, START + 100 * DAY);
        assert_eq!(signing(&authority, &entropy, START).0, first);
    }
}

//! What the workers of one tenant may have in the log together.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use mortise_control::TenantName;

use super::limit::Bucket;

/// Seconds' worth of a quota that may come at once, as of a worker's own limit.
const BURST: u32 = 4;

/// The quotas that were said. A tenant that is not there has none: each of its workers has its own limit.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    tenants: Mutex<BTreeMap<TenantName, Bucket>>,
}

impl Quotas {
    /// So many bytes a second from now on; none: as many as its workers may have by themselves.
    pub fn set(&self, tenant: &TenantName, bytes: Option<u32>, now: Instant) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        match bytes {
            None => drop(tenants.remove(tenant)),
            // The same once more is no new burst.
            Some(bytes) if tenants.get(tenant).is_some_and(|it| it.rate() == f64::from(bytes)) => {}
            Some(bytes) => {
                tenants.insert(tenant.clone(), Bucket::full(bytes, bytes.saturating_mul(BURST), now));
            }
        }
    }

    /// Whether a line of so many bytes is within its tenant's; if so, it counts.
    pub fn admit(&self, tenant: &TenantName, bytes: usize, now: Instant) -> bool {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.get_mut(tenant).is_none_or(|it| it.take(bytes, now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_tenants_quota_is_one_for_all_who_ask_and_of_no_other_tenant() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let [acme, other] = ["acme", "other"].map(|it| TenantName::new(it).unwrap());
        let admitted = |tenant: &TenantName, now| (0..10_000).filter(|_| quotas.admit(tenant, 100, now)).count();
        assert_eq!(admitted(&acme, start), 10_000, "nothing was said");
        quotas.set(&acme, Some(1_000), start);
        assert_eq!((admitted(&acme, start), admitted(&other, start)), (40, 10_000));
        quotas.set(&acme, Some(1_000), start);
        assert_eq!(admitted(&acme, start), 0, "said once more it is the same");
        assert_eq!(admitted(&acme, start + Duration::from_secs(1)), 10);
        quotas.set(&acme, Some(2_000), start + Duration::from_secs(1));
        assert_eq!(admitted(&acme, start + Duration::from_secs(1)), 80);
        quotas.set(&acme, None, start + Duration::from_secs(1));
        assert_eq!(admitted(&acme, start + Duration::from_secs(1)), 10_000);
    }
}

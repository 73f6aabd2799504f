//! What an operator may set of a base: configuration values of its module, as text.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ingress::{Forwarded, Limits};

/// A value that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration {key} = {found:?}: {allowed}")]
pub(crate) struct InvalidSetting {
    key: &'static str,
    found: String,
    allowed: &'static str,
}

impl Limits {
    /// These limits with what the configuration says otherwise. Keys are called like the fields; times are in seconds.
    pub(crate) fn configured(mut self, values: &BTreeMap<String, String>) -> Result<Self, InvalidSetting> {
        let from = Values(values);
        from.count("connections", &mut self.connections)?;
        from.count("in_flight", &mut self.in_flight)?;
        from.count("in_flight_per_worker", &mut self.in_flight_per_worker)?;
        from.count("head_bytes", &mut self.head_bytes)?;
        from.count("headers", &mut self.headers)?;
        from.count("body_bytes", &mut self.body_bytes)?;
        from.count("pool_size", &mut self.pool_size)?;
        from.seconds("head_time", &mut self.head_time)?;
        from.seconds("idle_time", &mut self.idle_time)?;
        from.seconds("stall_time", &mut self.stall_time)?;
        from.seconds("request_time", &mut self.request_time)?;
        from.seconds("gap_time", &mut self.gap_time)?;
        from.seconds("pool_time", &mut self.pool_time)?;
        from.seconds("linger_time", &mut self.linger_time)?;
        from.choice("forwarded", &mut self.forwarded)?;
        Ok(self)
    }
}

struct Values<'a>(&'a BTreeMap<String, String>);

impl Values<'_> {
    fn set<T>(
        &self,
        key: &'static str,
        to: &mut T,
        allowed: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<(), InvalidSetting> {
        let Some(found) = self.0.get(key) else { return Ok(()) };
        *to = read(found).ok_or_else(|| InvalidSetting { key, found: found.clone(), allowed })?;
        Ok(())
    }

    fn count<T: std::str::FromStr + PartialOrd + From<u8>>(
        &self,
        key: &'static str,
        to: &mut T,
    ) -> Result<(), InvalidSetting> {
        let read = |it: &str| it.parse().ok().filter(|it| *it >= T::from(1));
        self.set(key, to, "give a whole number of at least 1", read)
    }

    fn seconds(&self, key: &'static str, to: &mut Duration) -> Result<(), InvalidSetting> {
        let day = Duration::from_secs(86_400);
        let read = |it: &str| {
            let time = Duration::try_from_secs_f64(it.parse().ok()?).ok()?;
            (time > Duration::ZERO && time <= day).then_some(time)
        };
        self.set(key, to, "give seconds, more than 0 and at most 86400", read)
    }

    fn choice(&self, key: &'static str, to: &mut Forwarded) -> Result<(), InvalidSetting> {
        let read = |it: &str| match it {
            "replace" => Some(Forwarded::Replace),
            "append" => Some(Forwarded::Append),
            _ => None,
        };
        self.set(
            key,
            to,
            "give \"replace\" (clients come directly) or \"append\" (a trusted proxy stands before)",
            read,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(key: &str, value: &str) -> Result<Limits, InvalidSetting> {
        Limits::default().configured(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn what_is_set_is_changed_and_the_rest_stays() {
        let default = Limits::default();
        assert_eq!(configured("log", "debug"), Ok(default.clone()));
        assert_eq!(configured("body_bytes", "17"), Ok(Limits { body_bytes: 17, ..default.clone() }));
        let half = Duration::from_millis(500);
        assert_eq!(configured("head_time", "0.5"), Ok(Limits { head_time: half, ..default.clone() }));
        assert_eq!(configured("forwarded", "append"), Ok(Limits { forwarded: Forwarded::Append, ..default }));
    }

    #[test]
    fn what_cannot_be_names_key_value_and_remedy() {
        for (key, value) in [
            ("body_bytes", "0"),
            ("body_bytes", "-1"),
            ("in_flight_per_worker", "5000000000"),
            ("connections", "many"),
            ("head_time", "0"),
            ("head_time", "NaN"),
            ("head_time", "1e9"),
            ("forwarded", "yes"),
        ] {
            let error = configured(key, value).expect_err(value).to_string();
            assert!(error.contains(key) && error.contains(value) && error.contains("give"), "{error}");
        }
    }
}

//! The latest lines of every module in memory, and those that follow.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use mortise_control::{ModuleName, TenantName};
use tokio::sync::broadcast;

use crate::api::LogLine;
use crate::engine::Following;

/// Lines kept per module.
const KEPT_LINES: usize = 2000;

/// Bytes of text kept per module: two thousand full lines would be 16 MiB.
const KEPT_BYTES: usize = 1 << 20;

/// How far a follower may fall behind before it is told that it missed some.
const FOLLOWER_LAG: usize = 2048;

/// The workers' output, by module.
#[derive(Debug)]
pub struct LogStore {
    modules: Mutex<BTreeMap<(TenantName, ModuleName), Kept>>,
    followers: broadcast::Sender<Arc<LogLine>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
}

impl Default for LogStore {
    fn default() -> Self {
        let (followers, _) = broadcast::channel(FOLLOWER_LAG);
        Self { modules: Mutex::default(), followers }
    }
}

impl LogStore {
    /// Adds a line and sends it to the followers.
    pub fn append(&self, line: LogLine) -> Arc<LogLine> {
        let line = Arc::new(line);
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = modules.entry((line.tenant.clone(), line.module.clone())).or_default();
        kept.bytes += weight(&line);
        kept.lines.push_back(Arc::clone(&line));
        while kept.lines.len() > KEPT_LINES || kept.bytes > KEPT_BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= weight(&oldest);
        }
        // Under the lock: a follower sees each line exactly once. No receiver is no error.
        let _ = self.followers.send(Arc::clone(&line));
        line
    }

    /// The latest `count` lines of a module, oldest first.
    #[must_use]
    pub fn tail(&self, tenant: &TenantName, module: &ModuleName, count: usize) -> Vec<Arc<LogLine>> {
        let modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = modules.get(&(tenant.clone(), module.clone())) else { return Vec::new() };
        kept.lines.iter().skip(kept.lines.len().saturating_sub(count)).cloned().collect()
    }

    /// The latest `count` lines of a module and all lines **of all modules** that come: the follower filters.
    #[must_use]
    pub fn follow(&self, tenant: &TenantName, module: &ModuleName, count: usize) -> Following<LogLine> {
        let modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let past = modules
            .get(&(tenant.clone(), module.clone()))
            .map(|kept| kept.lines.iter().skip(kept.lines.len().saturating_sub(count)).cloned().collect())
            .unwrap_or_default();
        Following { past, coming: self.followers.subscribe() }
    }

    /// Forgets a module that was uninstalled.
    pub fn forget(&self, tenant: &TenantName, module: &ModuleName) {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        modules.remove(&(tenant.clone(), module.clone()));
    }
}

fn weight(line: &LogLine) -> usize {
    line.text.len() + line.fields.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() + size_of::<LogLine>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::LogStream;

    fn line(module: &str, text: &str) -> LogLine {
        LogLine {
            at: jiff::Timestamp::UNIX_EPOCH,
            tenant: TenantName::new("default").unwrap(),
            module: ModuleName::new(module).unwrap(),
            version: "1.0.0".into(),
            worker: "0.1".into(),
            stream: LogStream::Stdout,
            level: None,
            text: text.into(),
            fields: BTreeMap::new(),
            dropped_before: 0,
        }
    }

    #[test]
    fn memory_is_bounded_by_bytes_and_by_lines() {
        let store = LogStore::default();
        let (tenant, module) = (TenantName::new("default").unwrap(), ModuleName::new("loud").unwrap());
        for _ in 0..1000 {
            store.append(line("loud", &"x".repeat(8192)));
        }
        assert!(store.tail(&tenant, &module, usize::MAX).len() * 8192 <= KEPT_BYTES);
        for n in 0..3 * KEPT_LINES {
            store.append(line("loud", &n.to_string()));
        }
        let kept = store.tail(&tenant, &module, usize::MAX);
        assert!(kept.len() <= KEPT_LINES);
        assert_eq!(kept.last().unwrap().text, (3 * KEPT_LINES - 1).to_string());
    }

    #[test]
    fn modules_do_not_push_out_each_other() {
        let store = LogStore::default();
        store.append(line("quiet", "still here"));
        for _ in 0..2 * KEPT_LINES {
            store.append(line("loud", "noise"));
        }
        let tenant = TenantName::new("default").unwrap();
        assert_eq!(store.tail(&tenant, &ModuleName::new("quiet").unwrap(), 10).len(), 1);
    }

    #[test]
    fn a_follower_sees_each_line_once() {
        let store = LogStore::default();
        store.append(line("a", "past"));
        let (tenant, module) = (TenantName::new("default").unwrap(), ModuleName::new("a").unwrap());
        let mut following = store.follow(&tenant, &module, 10);
        store.append(line("a", "coming"));
        assert_eq!(following.past[0].text, "past");
        assert_eq!(following.coming.try_recv().unwrap().text, "coming");
    }
}

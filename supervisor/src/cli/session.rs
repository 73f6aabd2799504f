//! What every command has at hand.

use std::time::Duration;

use mortise_control::TenantName;

use super::arguments::Global;
use super::client::Client;
use super::screen::Screen;

/// The supervisor, the screen, and the options of all commands.
#[derive(Clone, Debug)]
pub struct Session {
    /// The admin API.
    pub client: Client,
    /// Standard output.
    pub screen: Screen,
    /// Whose modules.
    pub tenant: TenantName,
    /// How long to wait for what was asked.
    pub timeout: Duration,
    /// Whether to wait at all.
    pub wait: Wait,
}

/// Whether to wait for the end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it has ended.
    Ended,
    /// Until it is accepted.
    Accepted,
}

impl Session {
    /// What the options say.
    pub fn new(global: &Global) -> Self {
        Self {
            client: Client::new(global.socket.clone()),
            screen: Screen::new(global.color, global.json),
            tenant: global.tenant.clone(),
            timeout: global.timeout,
            wait: if global.no_wait { Wait::Accepted } else { Wait::Ended },
        }
    }

    /// `path?tenant=…`
    pub fn of_tenant(&self, path: &str) -> String {
        format!("{path}?tenant={}", self.tenant)
    }
}

//! Calls with copies, between workers that are one process.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mortise_control::shadow::{Piece, Shadowed, ShadowedMethod};
use mortise_control::{ServiceName, ToSupervisor};
use serde::{Deserialize, Serialize};

use crate::testing::{Harness, Running, boot_record};
use crate::worker::{Report, Shared};
use crate::{CallError, Context, Failure};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    text: String,
    suggestion: Option<String>,
}

#[module_runtime::service(name = "spell", error = String)]
pub trait Spell {
    #[idempotent]
    async fn check(&self, text: String) -> Result<Vec<Word>, String>;
    async fn learn(&self, word: String) -> Result<u64, String>;
}

/// What a version does with a text.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Answers,
    Suggests,
    Panics,
    Hangs,
    Fails,
    Learns,
    Repeats(usize),
}

struct Version {
    does: Does,
    /// Calls of `check` and of `learn` that have begun.
    begun: Arc<[AtomicU64; 2]>,
    /// Of those that it made itself: what it was told.
    nested: Arc<Mutex<Vec<String>>>,
    client: Option<SpellClient>,
}

impl Spell for Version {
    async fn check(&self, text: String) -> Result<Vec<Word>, String> {
        self.begun[0].fetch_add(1, Relaxed);
        let word = |suggestion: Option<&str>| Word { text: text.clone(), suggestion: suggestion.map(str::to_owned) };
        match self.does {
            Does::Answers => Ok(vec![word(None), word(None)]),
            Does::Suggests => Ok(vec![word(None), word(Some("whale"))]),
            Does::Panics => panic!("on purpose"),
            Does::Hangs => pending().await,
            Does::Fails => Err("no".into()),
            Does::Repeats(times) => Ok(vec![word(None); times]),
            Does::Learns => {
                let client = self.client.as_ref().unwrap();
                let learnt = client.learn(text.clone()).await;
                let checked = client.check("nested".into()).await;
                let marked = Context::current().is_some_and(|it| it.is_shadow());
                self.nested.lock().unwrap().push(format!("{marked} {learnt:?} {}", checked.is_ok()));
                Ok(vec![word(None), word(None)])
            }
        }
    }

    async fn learn(&self, _: String) -> Result<u64, String> {
        Ok(self.begun[1].fetch_add(1, Relaxed))
    }
}

/// A version in charge that answers, and one beside that does something.
struct Pair {
    harness: Running,
    client: SpellClient,
    begun: [Arc<[AtomicU64; 2]>; 2],
    nested: Arc<Mutex<Vec<String>>>,
}

impl Pair {
    fn of(charge: Does, beside: Does) -> Self {
        Self::on(Harness::new("spell").start().unwrap(), charge, beside)
    }

    fn on(harness: Running, charge: Does, beside: Does) -> Self {
        let client: SpellClient = harness.worker().client();
        let (begun, nested) = (<[Arc<[AtomicU64; 2]>; 2]>::default(), Arc::default());
        for (does, begun) in [charge, beside].into_iter().zip(&begun) {
            let (begun, nested, client) = (Arc::clone(begun), Arc::clone(&nested), Some(client.clone()));
            harness.serve(SpellServer::new(Version { does, begun, nested, client })).unwrap();
        }
        Self { harness, client, begun, nested }
    }

    fn begun(&self) -> [[u64; 2]; 2] {
        [0, 1].map(|version| [0, 1].map(|method: usize| self.begun[version][method].load(Relaxed)))
    }

    fn told(&self) -> Option<Shadowed> {
        self.harness.worker().shared().routes(&ServiceName::new("spell").unwrap()).compared()
    }

    /// The figures of `check`, once this many copies have come to something.
    async fn compared(&self, count: u64) -> ShadowedMethod {
        let all = async {
            loop {
                let methods = self.told().map(|it| it.methods).unwrap_or_default();
                match &methods[..] {
                    [it] if it.equal + it.different + it.failed + it.skipped == count => return it.clone(),
                    [] | [_] => tokio::task::yield_now().await,
                    more => panic!("{more:?}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.unwrap_or_else(|_| panic!("{:?}", self.told()))
    }
}

fn sums(it: &ShadowedMethod) -> [u64; 4] {
    [it.equal, it.different, it.failed, it.skipped]
}

const ALL: u64 = 20;

#[tokio::test]
async fn only_idempotent_calls_are_copied_and_their_callers_get_what_the_version_in_charge_says() {
    let pair = Pair::of(Does::Answers, Does::Suggests);
    pair.harness.shadow("spell", 100);
    for call in 0..ALL {
        let words = pair.client.check("wale".into()).await.unwrap();
        assert!(words.iter().all(|it| it.suggestion.is_none()));
        assert_eq!(pair.client.learn("harpoon".into()).await, Ok(call));
    }
    let found = pair.compared(ALL).await;
    assert_eq!((found.method.as_str(), sums(&found)), ("check", [0, ALL, 0, 0]));
    assert_eq!(pair.begun(), [[ALL, ALL], [ALL, 0]]);
    let [example] = &found.examples[..] else { panic!("one place, one example: {:?}", found.examples) };
    assert_eq!(example.path, "[1].suggestion");
    assert_eq!((example.charge, example.beside), (Piece::Nothing, Piece::Text(5)));
    assert_eq!(example.beside_bytes - example.charge_bytes, 5, "a text of five bytes for a nil");
    let counted = |buckets: &[u64]| buckets.iter().sum::<u64>();
    assert_eq!((counted(&found.charge_latency_log2), counted(&found.beside_latency_log2)), (ALL, ALL));
    assert!(!format!("{found:?}").contains("wale"), "values are not told");
}

#[tokio::test]
async fn what_is_answered_alike_is_equal_also_if_it_is_written_otherwise() {
    let pair = Pair::of(Does::Answers, Does::Suggests);
    // By name, as between two versions of a schema.
    let same = Version { does: Does::Answers, begun: Arc::default(), nested: Arc::default(), client: None };
    pair.harness.serve_by_name(SpellServer::new(same)).unwrap();
    pair.harness.shadow("spell", 100);
    for _ in 0..ALL {
        pair.client.check("wale".into()).await.unwrap();
    }
    let found = pair.compared(ALL).await;
    // The one in the middle answers its part of the calls as a worker of the version in charge.
    assert_eq!((found.failed, found.skipped, found.equal + found.different), (0, 0, ALL));
    assert!(found.equal > 0 && found.examples.iter().all(|it| it.path == "[1].suggestion"), "{found:?}");
}

#[tokio::test]
async fn a_share_of_none_copies_nothing() {
    let pair = Pair::of(Does::Answers, Does::Answers);
    pair.harness.shadow("spell", 0);
    for _ in 0..ALL {
        pair.client.check("wale".into()).await.unwrap();
    }
    assert_eq!((pair.begun(), pair.told()), ([[ALL, 0], [0, 0]], None));
}

#[tokio::test]
async fn a_share_is_about_what_it_says() {
    let pair = Pair::of(Does::Answers, Does::Answers);
    pair.harness.shadow("spell", 50);
    for _ in 0..400 {
        pair.client.check("wale".into()).await.unwrap();
    }
    let copies = pair.begun()[1][0];
    // 200 with a deviation of 10: out of this range once in 10^22 times.
    assert!((100..300).contains(&copies), "{copies} of 400");
}

#[tokio::test]
async fn a_version_beside_that_panics_or_answers_its_error_is_told_of_and_nobody_else_notices() {
    for (charge, beside, expected, piece) in [
        (Does::Answers, Does::Panics, [0, 0, ALL, 0], Piece::Internal),
        (Does::Answers, Does::Fails, [0, ALL, 0, 0], Piece::Fault),
        (Does::Repeats(12_000), Does::Repeats(12_001), [0, ALL, 0, 0], Piece::Long),
    ] {
        let pair = Pair::of(charge, beside);
        pair.harness.shadow("spell", 100);
        for _ in 0..ALL {
            pair.client.check("wale".into()).await.unwrap();
        }
        let found = pair.compared(ALL).await;
        assert_eq!((sums(&found), found.examples[0].beside), (expected, piece));
        assert_eq!(found.examples[0].path, "");
    }
    let pair = Pair::of(Does::Repeats(12_000), Does::Repeats(12_000));
    pair.harness.shadow("spell", 100);
    pair.client.check("wale".into()).await.unwrap();
    assert_eq!(sums(&pair.compared(1).await), [1, 0, 0, 0], "long answers are compared as a whole");
}

#[tokio::test]
async fn a_version_beside_that_hangs_holds_a_bounded_number_of_copies_until_the_routes_change() {
    let pair = Pair::of(Does::Answers, Does::Hangs);
    pair.harness.shadow("spell", 100);
    for _ in 0..100 {
        pair.client.check("wale".into()).await.unwrap();
    }
    assert_eq!(sums(&pair.compared(68).await), [0, 0, 0, 68], "32 are under way");
    pair.harness.shadow("spell", 0);
    assert_eq!(sums(&pair.compared(100).await), [0, 0, 0, 100], "they are given up");
    pair.harness.shadow("spell", 100);
    pair.client.check("wale".into()).await.unwrap();
    assert_eq!(sums(&pair.compared(101).await), [0, 0, 0, 101], "it still holds them");
    assert_eq!(pair.begun(), [[101, 0], [32, 0]]);
}

#[tokio::test]
async fn a_call_that_fails_says_nothing_of_the_version_beside() {
    let pair = Pair::of(Does::Panics, Does::Answers);
    pair.harness.shadow("spell", 100);
    for _ in 0..ALL {
        pair.client.check("wale".into()).await.unwrap_err();
    }
    assert_eq!(sums(&pair.compared(ALL).await), [0, 0, 0, ALL]);
}

#[tokio::test]
async fn what_a_copy_calls_is_a_copy_and_is_refused_unless_it_is_idempotent() {
    let pair = Pair::of(Does::Answers, Does::Learns);
    pair.harness.shadow("spell", 100);
    pair.client.check("wale".into()).await.unwrap();
    assert_eq!(sums(&pair.compared(1).await), [1, 0, 0, 0]);
    let refused = Failure::Invalid(
        "spell.learn was not called: this is a copy of a call, made to compare a new version's answers, and learn is not marked \
         #[idempotent]"
            .into(),
    );
    let said = format!("true {:?} true", Err::<u64, CallError<String>>(CallError::Failed(refused)));
    assert_eq!(*pair.nested.lock().unwrap(), [said]);
    assert_eq!(pair.begun(), [[2, 0], [1, 0]], "the nested call has no copy of its own");
}

#[tokio::test]
async fn copies_are_in_no_figures_of_those_who_answer_them() {
    let pair = Pair::of(Does::Answers, Does::Panics);
    pair.harness.shadow("spell", 100);
    for _ in 0..ALL {
        pair.client.check("wale".into()).await.unwrap();
    }
    pair.compared(ALL).await;
    let page = tempfile::tempfile().unwrap();
    page.set_len(mortise_control::stats::PAGE_BYTES as u64).unwrap();
    pair.harness.worker().shared().figures.move_to(&page).unwrap();
    let mut bytes = vec![0; mortise_control::stats::PAGE_BYTES];
    std::os::unix::fs::FileExt::read_exact_at(&page, &mut bytes, 0).unwrap();
    for it in mortise_control::stats::decode(&bytes).unwrap() {
        assert_eq!((it.calls, it.errors, it.in_flight), (ALL, 0, 0), "{it:?}");
    }
}

#[tokio::test]
async fn the_supervisor_is_told_the_sums_and_told_again_when_it_comes_back() {
    let (shared, mut reports) = Shared::new(boot_record("spell"), BTreeMap::new()).unwrap();
    let pair = Pair::on(Running::of(Arc::clone(&shared)), Does::Answers, Does::Suggests);
    pair.harness.shadow("spell", 100);
    for _ in 0..ALL {
        pair.client.check("wale".into()).await.unwrap();
    }
    pair.compared(ALL).await;
    let told = async |reports: &mut tokio::sync::mpsc::UnboundedReceiver<Report>, count| {
        let all = async {
            loop {
                match reports.recv().await.unwrap() {
                    Report::Message(ToSupervisor::Shadowed(it)) if it.methods[0].different == count => return it,
                    Report::Message(_) | Report::Flush(_) => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.unwrap()
    };
    let first = told(&mut reports, ALL).await;
    assert_eq!((first.service.as_str(), first.run), ("spell", 7));
    shared.routes(&first.service).tell_again();
    assert_eq!(told(&mut reports, ALL).await, first);
}

/// `cargo test --release -p module-runtime --lib what_a_call_takes -- --ignored --nocapture`: caller and both versions share one thread, so
/// with a share of 100 % the copy's own work is in it as well.
#[tokio::test]
#[ignore = "prints timings and asserts nothing about them"]
async fn what_a_call_takes() {
    let pair = Pair::of(Does::Answers, Does::Answers);
    for round in 0..3 {
        for percent in [0, 1, 10, 100] {
            pair.harness.shadow("spell", percent);
            let mut took = Vec::new();
            for _ in 0..20_000 {
                let begun = std::time::Instant::now();
                pair.client.check("wale".into()).await.unwrap();
                took.push(begun.elapsed().as_nanos());
            }
            took.sort_unstable();
            let at = |percent| took[took.len() * percent / 100];
            println!("round {round}: {percent:3} %: p50 {} ns, p99 {} ns", at(50), at(99));
        }
    }
}

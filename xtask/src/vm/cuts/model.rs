//! What may be found after a power cut: for each module the state of its last acknowledged operation, or that of the one that was under
//! way. Never anything else.

use std::collections::BTreeMap;

use serde_json::Value;

/// What an operator has asked of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Module {
    installed: Vec<String>,
    running: Option<String>,
    published: bool,
}

impl Module {
    fn read(told: &Value) -> Self {
        let text = |it: &Value| it.as_str().map(ToOwned::to_owned);
        Self {
            installed: told["installed"].as_array().into_iter().flatten().filter_map(text).collect(),
            running: text(&told["running"]),
            published: told["published"] == true,
        }
    }

    /// After that operation.
    fn after(&self, operation: &str) -> Self {
        let mut next = self.clone();
        match operation.split_once(' ').unwrap_or((operation, "")) {
            ("install", version) => next.installed = vec![version.to_owned()],
            ("uninstall", _) => next = Self::default(),
            ("start", _) => next.running = self.installed.last().cloned(),
            ("stop", _) => next.running = None,
            ("swap", version) => next.running = Some(version.to_owned()),
            ("publish", _) => next.published = true,
            ("unpublish", _) => next.published = false,
            // `restart`
            (_, _) => {}
        }
        next
    }
}

/// What was acknowledged, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Model {
    modules: BTreeMap<String, Module>,
    under_way: BTreeMap<String, String>,
    /// Ids of operations since the last look.
    acknowledged: Vec<String>,
    /// Operations that failed though the power was there.
    failed: Vec<String>,
}

impl Model {
    /// A line of cuts.py, without `cut: `. One that was cut itself says nothing.
    pub fn hear(&mut self, line: &str) {
        let Some(line) = line.strip_suffix(" ;") else { return };
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("begin"), Some(module), Some(operation)) => {
                self.under_way.insert(module.to_owned(), operation.to_owned());
            }
            (Some("done"), Some(module), Some(rest)) => {
                let Some((id, operation)) = rest.split_once(' ') else { return };
                self.under_way.remove(module);
                self.acknowledged.push(id.to_owned());
                let state = self.modules.entry(module.to_owned()).or_default();
                *state = state.after(operation);
            }
            (Some("failed"), Some(_), Some(_)) => self.failed.push(line.to_owned()),
            _ => {}
        }
    }

    /// How many operations were acknowledged since the last look, and how many are under way.
    pub fn counts(&self) -> (usize, usize) {
        (self.acknowledged.len(), self.under_way.len())
    }

    /// Compares with what is there after a boot, all that is wrong with it, and goes on from it.
    pub fn look(&mut self, told: &Value, first: bool) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.failed);
        let names = |it: &Value| it.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let found: BTreeMap<String, Module> =
            names(&told["modules"]).into_iter().map(|it| (it.clone(), Module::read(&told["modules"][&it]))).collect();
        let all: std::collections::BTreeSet<_> = found.keys().chain(self.modules.keys()).cloned().collect();
        for name in all.into_iter().filter(|_| !first) {
            let is = found.get(&name).cloned().unwrap_or_default();
            let old = self.modules.get(&name).cloned().unwrap_or_default();
            let new = self.under_way.get(&name).map(|it| old.after(it));
            if is != old && Some(&is) != new.as_ref() {
                wrong.push(format!("{name} is {is:?}; before the cut it was {old:?}, and would have become {new:?}"));
            }
        }
        let done = told["done"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        let lost = self.acknowledged.iter().filter(|it| !done.contains(&it.as_str()));
        wrong.extend(lost.map(|it| format!("the acknowledged operation {it} is not remembered as done")));
        if told["lacks"].as_array().is_none_or(|it| !it.is_empty()) {
            wrong.push(format!("not as it is wanted in the end: {}", told["lacks"]));
        }
        if told["asked"]["refused"].as_array().is_none_or(|it| !it.is_empty()) {
            wrong.push(format!("requests after READY that were not served: {}", told["asked"]));
        }
        if !first && told["asked"]["served"].as_u64().is_none_or(|it| it == 0) {
            wrong.push(format!("no request was served: {}", told["asked"]));
        }
        (self.modules, self.under_way, self.acknowledged) = (found, BTreeMap::new(), Vec::new());
        wrong
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(running: Option<&str>, done: &[&str]) -> Value {
        let module = json!({"installed": ["1.0.0", "2.0.0"], "running": running, "published": true});
        let asked = json!({"before": 1, "served": 1, "refused": []});
        json!({"modules": {"markdown": module}, "lacks": [], "done": done, "asked": asked})
    }

    fn at(running: &str) -> Model {
        let mut model = Model::default();
        assert_eq!(model.look(&found(Some(running), &[]), true), [""; 0]);
        model
    }

    #[test]
    fn an_operation_under_way_leaves_the_old_or_the_new() {
        for (left, is_right) in [(Some("1.0.0"), true), (Some("2.0.0"), true), (None, false), (Some("3.0.0"), false)] {
            let mut model = at("1.0.0");
            model.hear("begin markdown swap 2.0.0 ;");
            assert_eq!(model.look(&found(left, &[]), false).is_empty(), is_right, "{left:?}");
        }
    }

    #[test]
    fn an_acknowledged_operation_is_there() {
        for (left, done, is_right) in
            [(Some("2.0.0"), &["a"][..], true), (Some("1.0.0"), &["a"], false), (Some("2.0.0"), &[], false)]
        {
            let mut model = at("1.0.0");
            model.hear("begin markdown swap 2.0.0 ;");
            model.hear("done markdown a swap 2.0.0 ;");
            assert_eq!(model.look(&found(left, done), false).is_empty(), is_right, "{left:?} {done:?}");
        }
    }

    #[test]
    fn half_a_line_says_nothing() {
        let mut model = at("1.0.0");
        model.hear("begin markdown swap 2.0.0 ;");
        model.hear("done markdown a swap 2.0.");
        assert_eq!(model.counts(), (0, 1));
        model.hear("failed markdown swap 2.0.0 why ;");
        assert_eq!(model.look(&found(Some("1.0.0"), &[]), false).len(), 1);
    }
}

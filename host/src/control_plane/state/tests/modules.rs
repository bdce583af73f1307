//! Scenarios of modules that subworkers take from the control plane.

use super::*;
use crate::protocol::{ModuleList, ModulesQuery, OfferedModule, WORK_WAIT};

/// The control plane's own worker.
const OWN: Uuid = Uuid::from_u128(9);

fn live(path: &str, hash: &str, names: &[&str]) -> ModuleInfo {
    let tasks = names.iter().map(|name| info(name, Policy::default())).collect();
    ModuleInfo { path: path.into(), hash: hash.into(), size: 7, ..module(tasks) }
}

fn offered(path: &str, hash: &str) -> OfferedModule {
    OfferedModule { path: path.into(), hash: hash.into(), size: 7 }
}

impl Story {
    /// Registers the control plane's own worker.
    fn register_own(&mut self, slots: u32, modules: Vec<ModuleInfo>) {
        let registration = Registration { modules, ..registration(OWN, slots, &[]) };
        self.state.register(self.now, registration, None, To("register"));
    }

    fn change_own(&mut self, sequence: u64, modules: Vec<ModuleInfo>) {
        let change = CatalogChange { worker: OWN, sequence, modules, force: true };
        self.state.change_catalog(self.now, change, To("change"));
    }

    fn ask(&mut self, worker: Uuid, known: u64, wait_ms: u32) {
        self.state.modules(self.now, &ModulesQuery { worker, known, wait_ms }, To("modules"));
    }

    fn lists(&mut self) -> Vec<Option<ModuleList>> {
        let list = |reply| match reply {
            AnyReply::Worker(WorkerReply::Modules(list)) => Some(list),
            AnyReply::Worker(WorkerReply::Noted) => None,
            other => panic!("{other:?} is not a reply to a request for modules"),
        };
        self.replies_to("modules").into_iter().map(list).collect()
    }

    fn list(&mut self, worker: Uuid) -> ModuleList {
        self.ask(worker, 0, 0);
        self.lists().pop().flatten().expect("a list")
    }
}

#[test]
fn the_list_of_modules_is_sent_as_soon_as_it_changes() {
    let mut story = Story::with_worker(1);
    let empty = story.list(W);
    assert!(empty.modules.is_empty() && !empty.is_loading && empty.version != 0);
    story.ask(W, empty.version, 60_000);
    assert_eq!(story.lists(), [], "it waits");
    story.ask(W, empty.version, 60_000);
    assert_eq!(story.lists(), [None], "a repeated request replaces the one before it");
    let leaving = ModuleInfo { status: ModuleStatus::Leaving, ..live("old.wasm", "00", &[]) };
    let broken = ModuleInfo { status: ModuleStatus::Broken, ..live("broken.wasm", "", &[]) };
    story.register_own(1, vec![live("a.wasm", "aa", &["x"]), leaving, broken]);
    let [Some(first)] = &story.lists()[..] else { panic!("one list expected") };
    assert_eq!(first.modules, [offered("a.wasm", "aa")]);
    story.ask(W, first.version, 0);
    assert_eq!(story.lists(), [None], "it has not changed");
    story.ask(W, first.version, 60_000);
    story.change_own(1, vec![live("a.wasm", "ab", &["x"]), live("b.wasm", "bb", &["y"])]);
    let [Some(second)] = &story.lists()[..] else { panic!("one list expected") };
    assert_eq!(second.modules, [offered("a.wasm", "ab"), offered("b.wasm", "bb")]);
    story.ask(W, second.version, 60_000);
    story.later_alive(WORK_WAIT);
    assert_eq!(story.lists(), [None], "after the maximum time");
    // The list of another control plane with the same modules has the same version.
    let mut other = Story::with_worker(1);
    other.register_own(4, vec![live("a.wasm", "ab", &["x"]), live("b.wasm", "bb", &["y"])]);
    assert_eq!(other.list(W).version, second.version);
}

#[test]
fn a_list_is_marked_while_more_modules_will_follow() {
    let mut story = Story::with_worker(1);
    story.state.expect_modules();
    let before = story.list(W);
    assert!(before.is_loading && before.modules.is_empty());
    story.register_own(1, Vec::new());
    story.change_own(1, vec![live("a.wasm", "aa", &["x"])]);
    let during = story.list(W);
    assert!(during.is_loading && during.modules.len() == 1 && during.version != before.version);
    story.ask(W, during.version, 60_000);
    story.state.modules_loaded();
    let [Some(after)] = &story.lists()[..] else { panic!("one list expected") };
    assert!(!after.is_loading && after.modules == during.modules);
    // The own worker leaves when the control plane stops, which removes nothing.
    story.state.leave(story.now, OWN, To("leave"));
    assert_eq!(story.list(W).version, after.version);
}

#[test]
fn only_known_workers_get_modules_and_only_live_ones() {
    let mut story = Story::with_worker(1);
    story.register_own(1, vec![live("a.wasm", "aa", &["x"])]);
    let unknown = WorkerReply::Unknown;
    story.ask(V, 0, 0);
    assert_eq!(story.replies_to("modules"), [AnyReply::Worker(unknown.clone())]);
    assert_eq!(story.state.offered_module(V, "aa"), Err(unknown.clone()));
    assert_eq!(story.state.offered_module(W, "aa"), Ok(offered("a.wasm", "aa")));
    story.change_own(1, vec![live("a.wasm", "ab", &["x"])]);
    let gone = story.state.offered_module(W, "aa");
    assert!(
        matches!(&gone, Err(WorkerReply::Refused(refusal)) if refusal.code == RefusalCode::NoSuchModule),
        "{gone:?}"
    );
    let version = story.list(W).version;
    story.ask(W, version, 60_000);
    story.crash();
    assert_eq!(story.replies_to("modules"), [AnyReply::Worker(unknown.clone())], "it is lost");
    story.register(registration(V, 1, &[]));
    story.ask(V, version, 60_000);
    story.state.close_all();
    assert_eq!(story.replies_to("modules"), [AnyReply::Worker(unknown)], "the control plane stops");
}

#[test]
fn tasks_of_a_control_plane_without_slots_wait_for_a_worker() {
    let mut story = Story::within(Limits { unknown_grace: Duration::ZERO, ..Limits::default() });
    let submitted = story.submit(vec![task("x 0")], Notify::No);
    assert!(matches!(submitted[..], [Submitted::Ended(_)]), "nobody knows the name");
    story.register_own(0, vec![live("a.wasm", "aa", &["x", "y"])]);
    story.accept(&["x 1", "y 1"]);
    story.later_alive(secs(3600));
    assert_eq!(story.status("x 1"), Some(TaskStatus::Pending));
    assert!(story.state.is_quiet(), "a control plane that stops does not wait for them");
    story.register(registration(W, 1, &["x"]));
    assert_eq!(ids(&story.work(W, 0, Vec::new(), 1)), ["x 1"]);
    story.crash();
    story.later(secs(60));
    story.accept(&["x 2"]);
    story.change_own(1, vec![live("a.wasm", "ab", &["x"])]);
    assert!(matches!(story.submit(vec![task("y 2")], Notify::No)[..], [Submitted::Ended(_)]), "y was removed");
    // Only the control plane's own worker may have no slots.
    story.state.register(story.now, registration(V, 0, &[]), Some(PEER), To("register"));
    let refused = story.replies_to("register");
    assert!(matches!(&refused[..], [AnyReply::Worker(WorkerReply::Refused(_))]), "{refused:?}");
}

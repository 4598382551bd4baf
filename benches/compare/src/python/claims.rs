//! Checks common claims about Python servers. Each claim is about one application. A check measures all servers that
//! the claim is about, tells where the claim holds and by what margin, and which backends of Gearshift are a remedy.

mod background;
mod blocking;
mod cpu_bound;
mod leaving;
mod mixing;
mod pictures;
mod waiting;

use super::app::App;
use super::comparison::Entry;
use super::interpreter::Interpreter;
use super::server::Server;
use crate::claims::{Measured, measure};
use crate::failure::Failure;
use crate::format::list;
use crate::results::{Claim, Finding};
use crate::run::Run;
use crate::subject::Subject;
use crate::trial::Trial;

/// A claim and how to check it.
struct Check {
    /// The application that the claim is about.
    app: App,
    statement: &'static str,
    /// Whether users want the claim to hold, so that a server on which it does is a remedy for others, or want it to
    /// fail. `None` if they do not care.
    wanted: Option<bool>,
    /// Whether the claim is about this server.
    of: fn(Server) -> bool,
    /// A package that the application needs for this claim.
    package: Option<&'static str>,
    /// The trials on each server.
    trials: fn() -> Vec<Trial>,
    /// Derives the findings from the measures of each server, one per trial, and the servers' number of threads.
    judge: fn(&[Measured<'_>], &Context<'_>) -> Vec<Finding>,
}

/// What a check knows about the servers.
struct Context<'a> {
    app: App,
    servers: &'a [Server],
    threads: usize,
}

impl Context<'_> {
    /// How many requests can wait at once on a server; `None` if their number has no limit.
    fn waits_at_once(&self, subject: &str) -> Option<usize> {
        let server = self.servers.iter().find(|server| server.name() == subject)?;
        server.waits_at_once(self.app.interface(), self.threads)
    }
}

fn checks() -> [Check; 20] {
    [
        mixing::FLASK,
        mixing::FASTAPI,
        blocking::STALLS_THE_NEIGHBOURS,
        blocking::A_DEF_VIEW_STALLS_NOBODY,
        blocking::A_POOL_OF_40_STARVES,
        blocking::ONE_SLOW_REQUEST_BLOCKS_ALL,
        cpu_bound::IN_A_THREAD_STALLS_NOBODY,
        cpu_bound::FLASK,
        cpu_bound::FASTAPI,
        leaving::WAITS,
        leaving::CPU,
        waiting::FLASK_WITH_ONE_CLIENT,
        waiting::FASTAPI_WITH_ONE_CLIENT,
        waiting::FLASK_IS_BOUNDED_BY_THREADS,
        waiting::FASTAPI_IS_NOT_BOUNDED,
        waiting::FLASK_CALLS_OVERLAP,
        waiting::FASTAPI_CALLS_OVERLAP,
        waiting::THE_KTH_TAKES_K_TIMES,
        background::DELAYS_NO_CLIENT,
        pictures::BELONG_IN_THE_THREAD_POOL,
    ]
}

/// A check on the servers that its claim is about.
pub(super) struct Prepared<'a> {
    number: usize,
    check: Check,
    servers: Vec<Server>,
    subjects: Vec<&'a Subject>,
    trials: Vec<Trial>,
}

/// The checks of the applications under comparison, as far as the packages that they need are installed.
pub(super) fn prepared<'a>(entries: &'a [Entry], interpreter: &Interpreter) -> Vec<Prepared<'a>> {
    let prepare = |(index, check): (usize, Check)| {
        let entry = entries.iter().find(|entry| entry.app == check.app)?;
        let of = entry.servers.iter().zip(&entry.subjects).filter(|(server, _)| (check.of)(**server));
        let (servers, subjects): (Vec<Server>, Vec<&Subject>) = of.unzip();
        let lacks = interpreter.lacks(check.package.as_slice()).is_some();
        let trials = (check.trials)();
        (!subjects.is_empty() && !lacks).then_some(Prepared {
            number: index + 1,
            check,
            servers,
            subjects,
            trials,
        })
    };
    checks().into_iter().enumerate().filter_map(prepare).collect()
}

/// The trials of one round.
pub(super) fn round<'p>(checks: &'p [Prepared<'_>]) -> Vec<&'p Trial> {
    let trials = |check: &'p Prepared<'_>| check.subjects.iter().flat_map(|_| &check.trials);
    checks.iter().flat_map(trials).collect()
}

/// Runs all checks.
///
/// # Errors
/// Any failure that prevents a measurement.
pub(super) fn check(run: &Run<'_>, checks: &[Prepared<'_>], threads: usize) -> Result<Vec<Claim>, Failure> {
    let mut claims = Vec::new();
    for (index, prepared) in checks.iter().enumerate() {
        let Prepared { number, check, servers, subjects, trials } = prepared;
        let statement = format!("{}: {}", check.app.title(), check.statement);
        run.progress.begin(&format!("claim {number}: {statement}"));
        let needed = run.bench.plan.all(&round(&checks[index..]));
        let (mut measured, made) = measure(run, *number, subjects, trials, needed)?;
        measured.retain(|one| {
            let skipped = one.measures.iter().find_map(|measure| measure.skipped.as_ref());
            skipped.iter().for_each(|why| run.progress.print(&format!("{}: {why}", one.subject)));
            skipped.is_none()
        });
        let findings = (check.judge)(&measured, &Context { app: check.app, servers, threads });
        claims.push(Claim {
            number: *number,
            statement,
            holds: findings.iter().all(|finding| finding.holds),
            summary: summary(&findings, servers, check.wanted),
            findings,
            left_out: run.left_out(made),
        });
    }
    Ok(claims)
}

/// Where the claim holds, and which backends of Gearshift differ from other servers in the way that users want.
fn summary(findings: &[Finding], servers: &[Server], wanted: Option<bool>) -> String {
    let holds =
        |name: &str| findings.iter().filter(|finding| finding.subject == name).all(|finding| finding.holds);
    let is_measured = |name: &str| findings.iter().any(|finding| finding.subject == name);
    let measured: Vec<Server> =
        servers.iter().copied().filter(|server| is_measured(&server.name())).collect();
    let names = |with: &dyn Fn(&Server) -> bool| -> Vec<String> {
        measured.iter().filter(|server| with(server)).map(|server| server.name()).collect()
    };
    let mut sentences = Vec::new();
    match (names(&|server| holds(&server.name())), names(&|server| !holds(&server.name()))) {
        (yes, no) if no.is_empty() && !yes.is_empty() => sentences.push("It holds on every server.".into()),
        (yes, no) if yes.is_empty() && !no.is_empty() => sentences.push("It holds on no server.".into()),
        (yes, no) => sentences.push(format!("It holds on {}, not on {}.", list(&yes), list(&no))),
    }
    if let Some(wanted) = wanted {
        let good = |server: &Server| holds(&server.name()) == wanted;
        let is_a_problem = measured.iter().any(|server| !server.is_gearshift() && !good(server));
        let remedies = names(&|server| server.is_gearshift() && good(server));
        if is_a_problem && !remedies.is_empty() {
            sentences.push(format!("Remedy: {}.", list(&remedies)));
        }
    }
    sentences.join(" ")
}

fn every(_: Server) -> bool {
    true
}

#[cfg(test)]
mod tests;

//! The runner of the suites. It looks like libtest, and runs each test once for each driver, or once
//! where the driver does not matter.

use std::{
    env,
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    isolation::{self, Place},
    lab::{Driver, Lab},
};

/// One test: it gets an empty lab and fails by a panic or an error.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Its function's name.
    pub name: &'static str,
    /// Its body.
    pub run: fn(&mut Lab) -> Result<()>,
    /// After how long it counts as stuck.
    pub limit: Duration,
}

/// For tests that do not say how long they may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Lists tests by their functions: `tests![one, two, three: 120]`, with a limit in seconds where
/// [`LIMIT`] is too short.
#[macro_export]
macro_rules! tests {
    ($($name:ident $(: $seconds:literal)?),* $(,)?) => {
        &[$($crate::runner::Test {
            name: stringify!($name),
            run: $name,
            limit: $crate::tests!(@limit $($seconds)?),
        }),*]
    };
    (@limit) => { $crate::runner::LIMIT };
    (@limit $seconds:literal) => { ::std::time::Duration::from_secs($seconds) };
}

/// Prints one line of a suite's output.
pub fn say(line: &str) {
    // A closed terminal must not end the tests.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// The `main` of a suite.
pub fn main(tests: &[Test]) -> ExitCode {
    report(run(tests, &Driver::ALL))
}

/// The `main` of a suite that is about the control plane, where it does not matter what the workers
/// wait with: each test runs once.
pub fn main_once(tests: &[Test]) -> ExitCode {
    report(run(tests, &Driver::ALL[..1]))
}

fn report(ran: Result<ExitCode>) -> ExitCode {
    ran.unwrap_or_else(|error| {
        say(&format!(
            "error: {error:#}\n\ntest result: FAILED. nothing was tested"
        ));
        ExitCode::FAILURE
    })
}

/// The program under test; built from this workspace when it is not set. Not named `RINGWAY_…`: those are
/// keys of the boot file.
const RINGWAY: &str = "LAB_RINGWAY";

fn run(tests: &[Test], drivers: &[Driver]) -> Result<ExitCode> {
    let selection = Selection::from_arguments(env::args().skip(1));
    let (cases, left_out) = selection.cases(tests, drivers)?;
    if selection.list {
        for case in &cases {
            say(&format!("{}: test", case.name()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    match isolation::place() {
        Place::Outside => {
            let ringway = match env::var_os(RINGWAY) {
                Some(path) => PathBuf::from(path),
                None => crate::gateway::build()?,
            };
            isolation::run_inside(&[(RINGWAY, &ringway)])
        }
        Place::Inside { visit } => {
            isolation::settle_in()?;
            let ringway = env::var_os(RINGWAY).context("LAB_RINGWAY is not set")?;
            Ok(run_cases(&cases, left_out, &PathBuf::from(ringway), &visit))
        }
    }
}

#[derive(Clone, Copy)]
struct Case {
    test: Test,
    driver: Driver,
}

impl Case {
    fn name(&self) -> String {
        format!("{}::{}", self.driver.label(), self.test.name)
    }
}

/// What the command line asks for: libtest's `[FILTER…] [--exact] [--skip FILTER] [--list]`.
#[derive(Default)]
struct Selection {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
}

impl Selection {
    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut selection = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => selection.exact = true,
                "--list" => selection.list = true,
                "--skip" => selection.skips.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => {
                    arguments.next();
                }
                flag if flag.starts_with('-') => {}
                filter => selection.filters.push(filter.to_owned()),
            }
        }
        selection
    }

    /// The cases that are asked for, and how many others there are.
    fn cases(&self, tests: &[Test], drivers: &[Driver]) -> Result<(Vec<Case>, usize)> {
        let drivers = match env::var("RINGWAY_DRIVER") {
            Ok(label) => match Driver::ALL.iter().find(|driver| driver.label() == label) {
                Some(&driver) => vec![driver],
                None => bail!("RINGWAY_DRIVER is {label}: it can be io_uring or epoll"),
            },
            Err(_) => drivers.to_vec(),
        };
        let of = |driver| tests.iter().map(move |&test| Case { test, driver });
        let all = drivers.into_iter().flat_map(of);
        let (wanted, others): (Vec<_>, Vec<_>) = all.partition(|case| self.wants(&case.name()));
        Ok((wanted, others.len()))
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}

fn run_cases(cases: &[Case], left_out: usize, ringway: &Path, visit: &str) -> ExitCode {
    let started = Instant::now();
    say(&format!("\nrunning {} tests", cases.len()));
    let mut failed = Vec::new();
    for case in cases {
        let name = case.name();
        let began = Instant::now();
        let result = run_case(*case, ringway.to_owned(), visit);
        let seconds = began.elapsed().as_secs_f64();
        match result {
            Ok(()) => say(&format!("test {name} ... ok ({seconds:.2}s)")),
            Err(error) => {
                say(&format!(
                    "test {name} ... FAILED ({seconds:.2}s)\n  {error:#}"
                ));
                failed.push(name);
                if error.is::<Stuck>() {
                    // Its thread still runs, and may hold anything: no other test can be trusted.
                    break;
                }
            }
        }
    }
    for name in &failed {
        say(&format!("failed: {name}"));
    }
    say(&format!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {left_out} filtered out; \
         finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        cases.len() - failed.len(),
        failed.len(),
        started.elapsed().as_secs_f64(),
    ));
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}

/// A test that went over its limit.
#[derive(Debug)]
struct Stuck(Duration);

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not done after {:?}", self.0)
    }
}

impl std::error::Error for Stuck {}

fn run_case(case: Case, ringway: PathBuf, visit: &str) -> Result<()> {
    let (done, result) = mpsc::channel();
    let body = move || {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut lab = Lab::new(case.test.name, case.driver, ringway)?;
            let ran = catch_unwind(AssertUnwindSafe(|| (case.test.run)(&mut lab)));
            lab.finish(ran.unwrap_or_else(|panic| Err(told(&panic))))
        }));
        // Nobody listens any more when the test was given up.
        let _ = done.send(result.unwrap_or_else(|panic| Err(told(&panic))));
    };
    thread::Builder::new()
        .name(case.test.name.into())
        .spawn(body)?;
    let half = case.test.limit / 2;
    if let Ok(result) = result.recv_timeout(half) {
        return result;
    }
    say(&format!(
        "  {} has run for {half:?}; look inside: {visit}",
        case.name()
    ));
    match result.recv_timeout(half) {
        Ok(result) => result,
        Err(_) => Err(Stuck(case.test.limit).into()),
    }
}

fn told(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow::anyhow!("panicked: {}", text.unwrap_or("without a text"))
}

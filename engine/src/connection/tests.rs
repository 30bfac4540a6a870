mod chosen;

use super::*;

fn size_of_task<F>(_: fn(Rc<WorkerContext>, Rc<Pools>, Accepted) -> F) -> usize {
    size_of::<F>()
}

fn size_of_pass<'a, F>(
    _: fn(&'a Connection<'a>, Received, Endpoints, &'a mut Trace) -> F,
) -> usize {
    size_of::<F>()
}

/// Every idle connection pays for its task, and a relayed one for the deepest stage. When this
/// fails because one of them grew, look for a value that lives across an await, or a timer that
/// is not boxed; when it became much smaller, lower the bound.
#[test]
fn a_connections_task_stays_small() {
    let (task, pass) = (size_of_task(serve), size_of_pass(pass_through));
    assert!((700..=1000).contains(&task), "{task} bytes");
    assert!((700..=1600).contains(&pass), "{pass} bytes");
}

//! `embed REPOSITORY`: runs a plan of three tasks with a runner of this tool's own.
#![expect(clippy::print_stdout, reason = "it is a command")]

use orch_exec::model::plan::spec::{PlanSpec, TaskSpec};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let repository = std::env::args().nth(1).ok_or("usage: embed REPOSITORY")?;
    let plan = PlanSpec::new()
        .task(TaskSpec::new("agenda".parse()?).run("What we speak about"))
        .task(TaskSpec::new("minutes".parse()?).run("What we said").needs("agenda".parse()?))
        .task(TaskSpec::new("guests".parse()?).run("Who was there").needs("agenda".parse()?));
    let report = embed::take_notes(&repository, plan.validate()?).await?;
    for task in report.tasks {
        println!("{}: {}", task.id, task.status);
    }
    Ok(())
}

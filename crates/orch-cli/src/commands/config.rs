//! `orch config`

use crate::{
    app::ConfigArgs, compose::Workspace, config::Config, error::CliError, exit_code::Exit, render,
};

pub(super) fn config(workspace: &Workspace, args: &ConfigArgs) -> Result<Exit, CliError> {
    let config = workspace.config()?.with(None, &args.overrides);
    if args.json {
        let settings: Vec<_> = config
            .settings()
            .iter()
            .map(|setting| {
                serde_json::json!({
                    "key": setting.key.name(),
                    "value": setting.value,
                    "origin": setting.origin.to_string(),
                    "about": setting.key.about(),
                })
            })
            .collect();
        render::print(&format!("{:#}", serde_json::json!({ "version": 1, "settings": settings })))?;
    } else {
        render::print(&table(&config))?;
    }
    Ok(Exit::Success)
}

/// The settings with their origins, for people.
pub(super) fn table(config: &Config) -> String {
    render::table(
        ["SETTING", "VALUE", "FROM"],
        config.settings().iter().map(|setting| {
            [setting.key.name().to_owned(), setting.value.clone(), setting.origin.to_string()]
        }),
    )
}

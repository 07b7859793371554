//! Servers of tools that an agent is given.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `[agents.NAME.mcp.SERVER]`: a server of tools, which an agent talks to by the Model Context Protocol. It is a program,
/// or is reached at a URL.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct McpServer {
    /// Program and arguments: the agent starts it, and talks to it by its standard input and output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Variables for that program, besides those that the agent gives it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where it is, for one that is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

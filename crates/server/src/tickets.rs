//! Service tickets for callers: for the client app to trade, or for the caller's own calls.

use axum::response::Response;
use storekeeper_model::Audience;

use crate::answer::TicketAnswer;
use crate::call::Call;
use crate::caller::Scope;
use crate::code;
use crate::keys::json;
use crate::problem::Problem;

/// Get a service ticket.
///
/// `collections` and `purchase` are for the client app and need the scope `ticket:client`; `service` never leaves the backend and needs
/// `ticket:service`.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/tickets/{audience}",
    operation_id = "get_ticket",
    tag = "tickets",
    responses((status = 200, description = "a ticket that can be used now", body = TicketAnswer))
)]
pub(crate) async fn get(call: Call) -> Result<Response, Problem> {
    let audience = audience(&call.segment("{audience}")?)?;
    let app = call.app(scope(audience))?;
    call.query(&[])?;
    let ticket = call.api.keeper().ticket(app, audience).await?;
    Ok(json(&TicketAnswer { access_token: ticket.access_token.expose(), expires_at: ticket.expires_at }))
}

fn scope(audience: Audience) -> Scope {
    match audience {
        Audience::Service => Scope::TicketService,
        Audience::Collections | Audience::Purchase => Scope::TicketClient,
    }
}

fn audience(text: &[u8]) -> Result<Audience, Problem> {
    let unknown = || Problem::new(&code::AUDIENCE_UNKNOWN, "a ticket is for `service`, `collections` or `purchase`");
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(unknown)
}

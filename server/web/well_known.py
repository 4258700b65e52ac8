"""Who we are: the did:web document, where the AppView learns where to find us."""

from flask import Blueprint, Response, abort, jsonify

from server.web.xrpc import service

well_known = Blueprint("well_known", __name__, url_prefix="/.well-known")


@well_known.get("/did.json")
def did_document() -> Response:
    """The document of our did:web. Resolvers follow no redirects and wait 3 s."""
    config = service().config
    if not config.service_did.startswith("did:web:"):
        abort(404, "the service's DID is no did:web: its document is in the PLC directory")
    return jsonify(
        {
            "@context": ["https://www.w3.org/ns/did/v1"],
            "id": config.service_did,
            "service": [
                {
                    "id": "#bsky_fg",
                    "type": "BskyFeedGenerator",
                    "serviceEndpoint": config.service_endpoint,
                }
            ],
        }
    )


@well_known.get("/atproto-did")
def atproto_did() -> Response:
    """For a publisher whose handle is our host name."""
    return Response(service().config.publisher_did, mimetype="text/plain")

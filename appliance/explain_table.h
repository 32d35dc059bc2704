/* appliance/explain_table.h: when each error occurs, what to do, and what it looks like. One line per
 * line of base/err.h; `cairn explain` and cairn-errors(7) are made from both. The examples are
 * sentences that the sources can say: tests/host/test_explain.py compares.
 *
 * Threads: constant data.
 * Memory:  none. */
#pragma once

/*  name           when it occurs
 *                 what to do
 *                 an example */
#define CN_EXPLANATIONS(X) \
    X(E_INVALID, "A flag, a key of the configuration or a parameter of a request has a value that is not allowed, or a name that nobody knows.", \
      "Change the value as the sentence says; `cairn config print` lists keys and bounds.", \
      "--listne: unknown key listne; is listen meant?") \
    X(E_UNSUPPORTED, "A request, a checkpoint or a chat template asks for something that Cairn does not serve.", \
      "Leave it out of the request, or serve a checkpoint of a family that the sentence lists.", \
      "config.json: architectures: GPT2LMHeadModel; Cairn serves LlamaForCausalLM, Qwen3ForCausalLM") \
    X(E_SYNTAX, "Text that must be JSON cannot be parsed.", \
      "Look at the place that the sentence names; an answer that is no JSON is often of a proxy in between.", \
      "the server's answer is no JSON") \
    X(E_LIMIT, "A request, or what follows from it, is above a limit of the configuration.", \
      "Ask for less, or raise the limit that the sentence names (limits.* in the configuration).", \
      "calls and blocks are nested more than 64 deep") \
    X(E_BAD_MODEL, "A Responses request names a model that this server does not have.", \
      "Ask GET /v1/models for the name, or set model_name.", \
      "The requested model 'gpt-x' does not exist. This server has 'cairn-demo'.") \
    X(E_PARENT, "previous_response_id names a response that is not there: deleted, forgotten after state.life_days, of another key, or never stored.", \
      "Begin anew with the whole history, and raise state.life_days if turns must live longer.", \
      "Previous response with id 'resp_1' not found.") \
    X(E_EXCLUSIVE, "A request has two parameters of which only one can be meant.", \
      "Leave one of them out.", \
      "previous_response_id: given together with conversation; a turn follows one or the other") \
    X(E_CONTEXT, "Prompt and answer together are longer than the context window.", \
      "Shorten the prompt or max_tokens; engine.context_tokens widens the window up to the model's.", \
      "the prompt has 100 tokens and max_tokens is 4096, together 4196; the context window holds 4096") \
    X(E_HTTP, "Bytes came that are not HTTP/1.1, or that two parsers could read differently.", \
      "Look at the client or the proxy in front; a listener with proxy_protocol wants its header first.", \
      "Content-Length: more than one, or beside Transfer-Encoding; must be one of the two, once") \
    X(E_AUTH, "The server has API keys, and the request has none of them.", \
      "Send a key of api_keys_file as \"Authorization: Bearer KEY\"; for cairn chat, set CAIRN_API_KEY.", \
      "the API key is not one of this server's") \
    X(E_PEER, "A listener for load balancers was reached from an address that is not one of them.", \
      "Add the address to the trusted networks, or send clients to the load balancer.", \
      "connection from 192.0.2.7: this listener serves the load balancers in proxy_protocol.from alone") \
    X(E_SCOPE, "The API key is one of this server's, and not one for this route.", \
      "Use another key, or give this one the scope that the sentence names in the keys file; `cairn key ls` lists them.", \
      "API key \"laptop\" has no scope \"conversations\", which this route needs") \
    X(E_NOT_FOUND, "There is no such route, turn or conversation, or it belongs to another key.", \
      "Compare path or id with what the server gave; `cairn session ls` lists conversations.", \
      "conv_1 is not there") \
    X(E_ABSENT, "There is no such response, conversation or item, or it belongs to another key.", \
      "Compare the id with what the server gave; what is not used is forgotten after state.life_days.", \
      "Response with id 'resp_1' not found.") \
    X(E_MODEL, "The request names a model that this server does not have.", \
      "Ask GET /v1/models for the name, or set model_name.", \
      "model: \"gpt-x\"; this server has \"cairn-demo\"") \
    X(E_METHOD, "The route is there, and has another method.", \
      "Use the method that the sentence names.", \
      "method: CONNECT; Cairn is not a proxy") \
    X(E_TIMEOUT, "A request did not arrive as a whole within limits.http_receive_ms.", \
      "Look for a client that stops half way, or a lossy network; raise the limit for slow uploads.", \
      "request: not whole after 30000 ms, the limit http_receive_ms") \
    X(E_BODY, "The body of a request is above limits.http_body_bytes.", \
      "Send less, or raise the limit (and that of the proxy in front).", \
      "body: more than 8388608 bytes, the limit http_body_bytes") \
    X(E_EXPECTATION, "An Expect header asks for something else than 100-continue.", \
      "Leave the header out.", \
      "Expect: \"200-maybe\"; must be 100-continue") \
    X(E_URI, "The target of a request is above limits.http_uri_bytes.", \
      "Move parameters into the body, or raise the limit.", \
      "request target: more than 4096 bytes, the limit http_uri_bytes") \
    X(E_RATE_REQUESTS, "A key, or all keys of its tenant together, sent more requests in a minute than they may, or has as many answers under way.", \
      "Wait as long as Retry-After says, which OpenAI's clients do by themselves, or raise requests_per_minute or concurrent in the keys file.", \
      "Rate limit reached: 16 requests of tenant \"acme\" are under way, and concurrent is 16. Please try again in 1s.") \
    X(E_RATE_TOKENS, "Prompt and answer may need more tokens than the key or its tenant has left in this minute.", \
      "Wait as long as Retry-After says, ask for fewer tokens, or raise tokens_per_minute in the keys file.", \
      "Request too large: its prompt has 5000 tokens; tokens_per_minute of key \"laptop\" is 2000.") \
    X(E_HEADERS, "The header fields of a request are too many or too long.", \
      "Drop cookies and headers of proxies, or raise limits.http_header_bytes and http_header_count.", \
      "header fields: more than 64, the limit http_header_count") \
    X(E_CANCELLED, "The client went away, or somebody stopped the command, before the answer was whole.", \
      "Nothing, if that was meant; otherwise look for a timeout of the client or the proxy.", \
      "interrupted") \
    X(E_INTERNAL, "A fault in Cairn itself.", \
      "Send what `cairn support-bundle` writes with a report.", \
      "libsodium cannot be started") \
    X(E_NUMERIC, "The model produced values that are not numbers, so there is nothing to sample from.", \
      "Compare the checkpoint's sums with the publisher's; `cairn doctor` looks for memory errors.", \
      "the model produced a value that is not a number") \
    X(E_MEMORY, "The system gave no memory.", \
      "`cairn doctor` says who has it; lower kv.bytes, kv.host_bytes or state.page_bytes.", \
      "configuration: no memory") \
    X(E_IO, "The system refused an operation on a file, a socket or a device.", \
      "Look at the path and the system's own words in the sentence; `cairn doctor` checks both.", \
      "--config: /etc/cairn/none.yaml: No such file or directory") \
    X(E_FORMAT, "A file, mostly of the checkpoint, is not what it should be.", \
      "Copy the checkpoint again and compare its sums with the publisher's.", \
      "the server names no model") \
    X(E_ENCODING, "A request has a transfer coding other than chunked.", \
      "Send Content-Length or chunked; compress nothing.", \
      "Transfer-Encoding: \"gzip\"; must be exactly chunked") \
    X(E_QUEUE, "More requests wait than limits.queue_requests allows.", \
      "Try again after Retry-After; add an appliance behind the load balancer, or raise the limit.", \
      "the server is overloaded: the waiting queue is full (limits.queue_requests: 1024); retry later") \
    X(E_DRAINING, "The server is shutting down and takes nothing new.", \
      "Send the request to another appliance; behind a load balancer this happens by itself.", \
      "the server is shutting down") \
    X(E_PAGES, "No page of KV memory is free, even after others gave way.", \
      "Raise kv.bytes, or lower engine.sequences or engine.context_tokens.", \
      "no KV page is free") \
    X(E_AGAIN, "Something with a bound is full or in use just now.", \
      "Try again.", \
      "dpdk.device: net_tap0: is still in use") \
    X(E_CONFLICT, "Somebody else is changing the conversation, or has changed it since it was read.", \
      "Read the conversation and try again from its new head, or fork it.", \
      "conv_1: another turn was committed meanwhile; it is at resp_2 now") \
    X(E_EXISTS, "An Idempotency-Key was used for another request, or for one that is under way.", \
      "Use a new key for a new request; the same request may be sent again for its answer.", \
      "this Idempotency-Key was used for another request") \
    X(E_CORRUPT, "A stored record is torn, damaged, or of a version that this Cairn does not read. It is never overwritten.", \
      "Restore the store from a copy, or delete the conversation that the sentence names.", \
      "conv_1: its key in the store is no record") \
    X(E_STORE, "The store of turns did not acknowledge in time. Nobody knows whether it happened.", \
      "Try again with the same Idempotency-Key; `cairn doctor` looks at Redis.", \
      "conv_1: the store of turns did not answer in time") \
    X(E_STORE_FULL, "The store of turns has no room.", \
      "Raise state.log_bytes or maxmemory of Redis, or lower state.life_days.", \
      "conv_1: the store of turns is full") \
    X(E_VERSION, "The request is of another HTTP version than 1.0 and 1.1.", \
      "Configure the client or proxy for HTTP/1.1.", \
      "HTTP version; must be 1.0 or 1.1")

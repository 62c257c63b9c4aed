-- The shape of request ids, statuses, error bodies and limits (CONTRACT 1.3, 2 and 13.1). No security here: a script
-- that fails is skipped and the answer passes as it is. edge_filters.py writes UNITS, TOO_LARGE and RETRY_IN above.

-- Envoy's own id is in x-request-id, what the client sent in x-edge-request-id.
function envoy_on_request(handle)
  local headers = handle:headers()
  local sent = headers:get("x-edge-request-id")
  if sent then headers:remove("x-edge-request-id") end
  if sent and #sent <= 128 and sent:find("^[%w._:-]+$") then
    headers:replace("x-request-id", sent)
  else
    headers:replace("x-request-id", "req_" .. headers:get("x-request-id"):gsub("-", ""))
  end
  -- The transcoder leaves alone what calls itself gRPC. On a REST route it is JSON all the same.
  local content_type = headers:get("content-type")
  if content_type and content_type:find("^application/grpc") and handle:metadata():get("rest") then
    headers:replace("content-type", "application/json")
  end
end

-- Errors without an envelope are gRPC's own words about a call that never reached our code, or was cut off.
local PLAIN = {
  ["400"] = { "invalid_request_error", "invalid_parameter" },
  ["401"] = { "auth_error", "unauthorized" },
  ["403"] = { "permission_error", "forbidden" },
  ["404"] = { "not_found_error", "not_found" },
  ["409"] = { "conflict_error", "conflict" },
  ["429"] = { "rate_limit_error", "rate_limit_exceeded" },
  ["499"] = { "timeout_error", "client_closed_request" },
  ["501"] = { "not_implemented_error", "not_implemented" },
  ["503"] = { "upstream_error", "service_unavailable", "The server is temporarily unavailable. Try again." },
  ["504"] = { "timeout_error", "upstream_timeout", "The server did not answer in time." },
}
local INTERNAL = { "internal_error", "server_error", "Internal error." }
local ENVELOPE = '{"error":{"type":"%s","code":"%s","message":"%s","param":%s,"request_id":"%s"}}'

-- Status and our envelope for an error body that is not ours; only the status when it is.
local function rewritten(text, status, request_id)
  if text:find('^{"code":%d') then
    local message = text:match('"message":"(.*)","details":%[') or ""
    if message:find("message larger than max", 1, true) then        -- gRPC's own limit, for bodies of unknown length
      local too_large = "The request body is too large."
      return "413", ENVELOPE:format("size_error", "max_size_exceeded", too_large, "null", request_id)
    end
    local kind = PLAIN[status] or INTERNAL
    return status, ENVELOPE:format(kind[1], kind[2], kind[3] or message, "null", request_id)
  end
  return status
end

-- What the limiter says of the caller, in the words of CONTRACT 13.1. A request with an API key takes `hits` of the
-- UNITS of its bucket; a shared service says `100, 100;w=60` and in how many seconds its window ends. Returns in how
-- many seconds a caller who has nothing left may come again.
local function tell_limits(headers, told)
  local start, hits, reset = headers:get("x-edge-start"), headers:get("x-edge-hits"), headers:get("x-ratelimit-reset")
  local limit, remaining = tonumber(told:match("^%d+")), tonumber(headers:get("x-ratelimit-remaining"))
  local seconds = 60 - tonumber(start) % 60
  if told:find(";w=", 1, true) then
    seconds = tonumber(reset)
  elseif hits and limit == UNITS then
    limit, remaining = math.floor(limit / tonumber(hits)), math.floor(remaining / tonumber(hits))
  end
  limit = ("%d"):format(limit)
  headers:replace("x-ratelimit-limit", limit)
  headers:replace("x-ratelimit-limit-minute", limit)
  headers:replace("x-ratelimit-remaining", ("%d"):format(remaining))
  headers:replace("x-ratelimit-remaining-minute", ("%d"):format(remaining))
  headers:replace("x-ratelimit-reset", ("%d"):format(tonumber(start) + seconds))
  return remaining == 0 and math.min(60, math.max(1, seconds)) or nil
end

-- A token that was good when the gateway looked, and that the service knows to be revoked: nobody was authenticated.
local function forget_caller(headers)
  for _, name in ipairs({ "x-user-id", "x-principal-id", "x-auth-method" }) do headers:remove(name) end
end

local function finish_error(handle, headers, status, seconds)
  local json, wanted = headers:get("x-error-json"), headers:get("x-http-status")
  local body = handle:body(true)                       -- waits for the end of the answer
  headers = handle:headers()                           -- what was fetched before waiting is gone
  local trailers = handle:trailers()
  if trailers and not json then
    json, wanted = trailers:get("x-error-json"), trailers:get("x-http-status") or wanted
    local retry_after = trailers:get("retry-after")
    if retry_after then headers:replace("retry-after", retry_after) end
  end
  status = wanted or status
  local length = body and body:length() or 0
  if length > 0 and not json then
    status, json = rewritten(body:getBytes(0, length), status, headers:get("x-request-id") or "")
  end
  headers:replace(":status", status)
  headers:remove("x-error-json")
  if status == "401" then
    headers:replace("www-authenticate", "Bearer")
    if json and json:find('"code":"unauthorized"', 1, true) then forget_caller(headers) end
  end
  if status == "429" and seconds and not headers:get("retry-after") then
    headers:replace("retry-after", tostring(seconds))
  end
  if status == "503" and not headers:get("retry-after") then headers:replace("retry-after", "1") end
  if length > 0 and json then
    headers:replace("content-type", "application/json")
    headers:replace("content-length", tostring(body:setBytes(json)))
  end
end

-- Envoy's own error for a REST call that called itself gRPC: a gRPC status, with our envelope as its message.
local function as_rest(handle, headers, envelope, status, seconds)
  local json = envelope:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  handle:body(true):setBytes(json)
  headers = handle:headers()
  headers:replace(":status", status)
  headers:replace("content-type", "application/json")
  headers:replace("content-length", tostring(#json))
  if status == "401" then headers:replace("www-authenticate", "Bearer") end
  if status == "429" and seconds then headers:replace("retry-after", tostring(seconds)) end
  if status == "503" then headers:replace("retry-after", "1") end
  headers:remove("x-http-status")
  headers:remove("grpc-status")
  headers:remove("grpc-message")
end

-- Envoy does not count gRPC-Web as gRPC when it refuses, so its answer has an HTTP status and a body, which browsers do
-- not read. It becomes what the same refusal is over gRPC.
local function as_grpc(handle)
  local body = handle:body(true)
  local words = body:getBytes(0, body:length())
  body:setBytes("")
  local headers = handle:headers()
  headers:replace(":status", "200")
  headers:replace("content-type", "application/grpc")
  headers:remove("content-length")
  headers:replace("grpc-message", (words:gsub("[^ -$&-~]", function(byte) return ("%%%02X"):format(byte:byte()) end)))
end

-- A refusal of the gateway to a native caller: it has its status already, but for those of the auth room.
local function finish_native(headers, message, wanted, seconds)
  local status = headers:get("x-grpc-status")
  if status then
    headers:replace("grpc-status", status)
    headers:remove("x-grpc-status")
  end
  if message and message:find("message larger than max", 1, true) and not headers:get("grpc-status-details-bin") then
    headers:replace("grpc-status", "11")               -- gRPC's own limit says 8, as if it were worth another try
    headers:replace("grpc-message", "The message is too large.")
    headers:replace("grpc-status-details-bin", TOO_LARGE)
  end
  if headers:get("www-authenticate") then headers:replace("www-authenticate", "Bearer") end
  if headers:get("grpc-status") == "16" then forget_caller(headers) end
  if wanted then headers:remove("x-http-status") end
  if wanted == "429" and seconds then
    headers:replace("retry-after", tostring(seconds))
    headers:replace("grpc-status-details-bin", RETRY_IN[seconds])
  end
end

-- A service that streams a file says its length under another name: the one of HTTP is about the gRPC messages there.
local function tell_length(headers)
  local length = headers:get("x-content-length")
  if not length then return end
  headers:remove("x-content-length")
  headers:replace("content-length", length)
end

-- The transcoder answers a HEAD with a body, too, which on HTTP/1.1 would be taken for the next answer.
local function drop_body(handle)
  local headers = handle:headers()
  local length = headers:get(":status") < "400" and headers:get("content-length")
  handle:body(true):setBytes("")
  headers = handle:headers()
  headers:remove("content-length")
  if length then headers:add("content-length", length) end
end

function envoy_on_response(handle)
  tell_length(handle:headers())
  if handle:metadata():get("head") then drop_body(handle) end          -- first: nothing may fail before
  local headers = handle:headers()
  local told, seconds = headers:get("x-ratelimit-limit"), nil
  if told then seconds = tell_limits(headers, told) end
  headers:remove("x-edge-start")
  headers:remove("x-edge-hits")
  if (headers:get("x-user-id") or headers:get("x-edge-external")) and not headers:get("x-auth-method") then
    headers:add("x-auth-method", "jwt")
  end
  headers:remove("x-edge-external")
  local content_type = headers:get("content-type") or ""
  if content_type == "text/plain" and headers:get("grpc-status-details-bin") and not handle:metadata():get("rest") then
    as_grpc(handle)
    headers, content_type = handle:headers(), "application/grpc"
  end
  if content_type:find("^application/grpc") then
    local message, wanted = headers:get("grpc-message"), headers:get("x-http-status")
    if wanted and message and message:find('^{"error":') and handle:metadata():get("rest") then
      as_rest(handle, headers, message, wanted, seconds)
    else
      finish_native(headers, message, wanted, seconds)
    end
    return
  end
  if content_type == "text/event-stream" then
    headers:replace("cache-control", "no-cache")
    headers:replace("x-accel-buffering", "no")
  end
  local status, wanted = headers:get(":status"), headers:get("x-http-status")
  if status >= "400" then
    finish_error(handle, headers, status, seconds)
    headers = handle:headers()
    headers:remove("x-grpc-status")
    headers:remove("grpc-status-details-bin")
  elseif wanted then
    headers:replace(":status", wanted)
    if wanted == "204" or wanted == "302" or wanted == "304" then
      handle:body(true):setBytes("")
      headers = handle:headers()
      headers:remove("content-type")
      headers:remove("content-length")
    end
  end
  headers:remove("x-http-status")
  headers:remove("grpc-status")
  headers:remove("grpc-message")
end

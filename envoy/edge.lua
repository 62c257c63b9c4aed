-- The shape of request ids, statuses and error bodies (CONTRACT 1.3 and 2). No security here: a script that fails is
-- skipped and the answer passes as it is.

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

-- Our envelope for a body of the transcoder; nil when there is nothing to improve. Texts in it stay JSON-escaped.
local function rewritten(text, status, request_id)
  if text:find('^{"code":%d') then
    local kind = PLAIN[status] or INTERNAL
    local message = kind[3] or text:match('"message":"(.*)","details":%[') or ""
    return ENVELOPE:format(kind[1], kind[2], message, "null", request_id)
  end
  if status ~= "400" then return end
  local param, value, type = text:match('([%w_.%[%]]+): invalid value (.-) for type ([%w_]+)')
  if param then
    local expected = type:match("^TYPE_(%w+)")
    local message = ("Parameter '%s' has a wrong value"):format(param)
    message = message .. (expected and (": %s is not %s."):format(value, expected:lower()) or ".")
    return ENVELOPE:format("invalid_request_error", "invalid_parameter", message, '"' .. param .. '"', request_id)
  end
  if text:find("Root element must be a message", 1, true) then
    return ENVELOPE:format("invalid_request_error", "invalid_parameter", "The body must be a JSON object.", "null", request_id)
  end
  local fault = text:match("is not valid JSON: (.-)\\")        -- without the excerpt that follows on the next lines
  if fault then
    return ENVELOPE:format("invalid_request_error", "invalid_json", "The body is not valid JSON: " .. fault, "null", request_id)
  end
end

local function finish_error(handle, headers, status)
  local json, wanted = headers:get("x-error-json"), headers:get("x-http-status")
  local body = handle:body(true)                       -- waits for the end of the answer
  headers = handle:headers()                           -- what was fetched before waiting is gone
  local trailers = handle:trailers()
  if trailers and not json then
    json, wanted = trailers:get("x-error-json"), wanted or trailers:get("x-http-status")
    local retry_after = trailers:get("retry-after")
    if retry_after then headers:replace("retry-after", retry_after) end
  end
  status = wanted or status
  headers:replace(":status", status)
  headers:remove("x-error-json")
  if status == "401" then headers:replace("www-authenticate", "Bearer") end
  if status == "503" and not headers:get("retry-after") then headers:replace("retry-after", "1") end
  if not body or body:length() == 0 then return end
  json = json or rewritten(body:getBytes(0, body:length()), status, headers:get("x-request-id") or "")
  if json then
    headers:replace("content-type", "application/json")
    headers:replace("content-length", tostring(body:setBytes(json)))
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get("x-user-id") and not headers:get("x-auth-method") then headers:add("x-auth-method", "jwt") end
  if (headers:get("content-type") or ""):find("^application/grpc") then
    if headers:get("www-authenticate") then headers:replace("www-authenticate", "Bearer") end
    return
  end
  local status, wanted = headers:get(":status"), headers:get("x-http-status")
  if status >= "400" then
    finish_error(handle, headers, status)
    headers = handle:headers()
  elseif wanted then
    headers:replace(":status", wanted)
    if wanted == "204" then
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

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

-- The transcoder's words about a body or a parameter. Texts stay JSON-escaped.
--   `tags[0]: invalid value "x" for type TYPE_BOOL`, `: invalid value Starting an object ... for type title`, `: Root
--   element must be a message.`: JSON of the wrong types.   `Unexpected token.\n{"a"\n^`: no JSON.
local function transcoder_fault(fault, is_body, request_id)
  local param, problem = fault:match("^([%w_.%[%]]*): (.*)$")
  local code, message = "invalid_json", "The body is not valid JSON: " .. fault:match("^[^\\]*")
  if not problem and not is_body then code, message = "invalid_parameter", fault end
  if problem then
    local value, type = problem:match("^invalid value (.-) for type (.*)$")
    local expected = type and type:match("^TYPE_(.*)$")
    if param == "" then param = type end
    code, message = "invalid_parameter", ("Parameter '%s' has a wrong type."):format(param or "")
    if expected then
      message = ("Parameter '%s' has a wrong value: %s is not %s."):format(param, value, expected:lower())
    end
    if not param then message = "The body, or a parameter in it, has a wrong type: " .. problem end
  end
  param = problem and param and '"' .. param .. '"' or "null"
  return ENVELOPE:format("invalid_request_error", code, message, param, request_id)
end

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
  local fault = status == "400" and text:match('"message":"Transcoder: (.*)","param":null')
  return status, fault and transcoder_fault(fault, text:find('"code":"invalid_json"', 1, true), request_id)
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
  local length = body and body:length() or 0
  if length > 0 and not json then
    status, json = rewritten(body:getBytes(0, length), status, headers:get("x-request-id") or "")
  end
  headers:replace(":status", status)
  headers:remove("x-error-json")
  if status == "401" then headers:replace("www-authenticate", "Bearer") end
  if status == "503" and not headers:get("retry-after") then headers:replace("retry-after", "1") end
  if length > 0 and json then
    headers:replace("content-type", "application/json")
    headers:replace("content-length", tostring(body:setBytes(json)))
  end
end

-- Envoy's own error for a REST call that called itself gRPC: a gRPC status, with our envelope as its message.
local function as_rest(handle, headers, envelope, status)
  local json = envelope:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  handle:body(true):setBytes(json)
  headers = handle:headers()
  headers:replace(":status", status)
  headers:replace("content-type", "application/json")
  headers:replace("content-length", tostring(#json))
  if status == "401" then headers:replace("www-authenticate", "Bearer") end
  if status == "503" then headers:replace("retry-after", "1") end
  headers:remove("x-http-status")
  headers:remove("grpc-status")
  headers:remove("grpc-message")
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get("x-user-id") and not headers:get("x-auth-method") then headers:add("x-auth-method", "jwt") end
  local content_type = headers:get("content-type") or ""
  if content_type:find("^application/grpc") then
    local message, wanted = headers:get("grpc-message"), headers:get("x-http-status")
    if wanted and message and message:find('^{"error":') and handle:metadata():get("rest") then
      as_rest(handle, headers, message, wanted)
      return
    end
    if headers:get("www-authenticate") then headers:replace("www-authenticate", "Bearer") end
    return
  end
  if content_type == "text/event-stream" then
    headers:replace("cache-control", "no-cache")
    headers:replace("x-accel-buffering", "no")
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

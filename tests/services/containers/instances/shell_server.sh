n=0
while read -r line; do
  id=$(echo "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p')
  [ -z "$id" ] && continue
  case "$line" in
    *'"initialize"'*) said='"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"shell","version":"1"}}' ;;
    *'"sleep"'*) sleep 60 ;;
    *'"tools/call"'*) n=$((n + 1)); said='"result":{"content":[],"structuredContent":{"count":'$n'}}' ;;
    *'"ping"'*) said='"result":{}' ;;
    *) said='"error":{"code":-32601,"message":"unknown"}' ;;
  esac
  echo "{\"jsonrpc\":\"2.0\",\"id\":$id,$said}"
done
